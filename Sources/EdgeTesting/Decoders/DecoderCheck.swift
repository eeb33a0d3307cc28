// Everything in this project that reads bytes which others wrote, each as a function from any bytes
// to "this holds". The fuzzer in `Fuzz` and a test of `make test` run the same checks. A decoder may
// refuse its input; what it must not do is trap, believe a length, or understand the same bytes in
// two ways.

import Glibc

/// One decoder, and what must hold for any bytes that it is given.
public struct DecoderCheck: Sendable, CustomStringConvertible {
  /// What it is called on the command line; also the folder of its corpus.
  public let name: String
  /// Throws `TestFailure` when something does not hold.
  public let run: @Sendable ([UInt8]) throws -> Void

  init(_ name: String, _ run: @escaping @Sendable ([UInt8]) throws -> Void) {
    self.name = name
    self.run = run
  }

  public var description: String { name }

  public static let all: [DecoderCheck] =
    shipChecks + pageChecks + engineChecks + fileChecks + lineChecks + credentialChecks
    + hranaChecks + syncChecks

  /// The check of this name; nil when there is none.
  public static func named(_ name: String) -> DecoderCheck? { all.first { $0.name == name } }
}

/// Throws unless `condition` holds.
func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
  guard condition else { throw TestFailure(what()) }
}

/// Takes an input apart: the first bytes say how the rest is used.
struct InputReader {
  private(set) var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  /// 0 when the input has ended.
  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  mutating func word() -> UInt32 {
    (0..<4).reduce(0) { word, _ in word << 8 | UInt32(byte()) }
  }

  /// At most `count` bytes.
  mutating func take(_ count: Int) -> [UInt8] {
    let taken = Array(rest.prefix(count))
    rest = rest.dropFirst(count)
    return taken
  }

  /// `count` bytes, the input over and over again when it is shorter.
  mutating func filled(_ count: Int) -> [UInt8] {
    let taken = take(count)
    guard !taken.isEmpty else { return [UInt8](repeating: 0, count: count) }
    return (0..<count).map { taken[$0 % taken.count] }
  }
}
