// What the tests of JSON and of the line protocol share.

import NIOCore
import Serving
import Store

/// Random numbers that are the same in every run (SplitMix64).
struct LineTestRandom: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A value of any type, odd ones more often than they are met.
  mutating func value() -> Value {
    switch Int.random(in: 0..<8, using: &self) {
    case 0: return .null
    case 1: return .integer(Int64(bitPattern: next()) >> Int64.random(in: 0..<64, using: &self))
    case 2:
      let real = Double(bitPattern: next())
      return real.isNaN ? .null : .real(real)
    case 3: return .real(Double(Int.random(in: -99_999...99_999, using: &self)) / 1000)
    case 4: return .text(text())
    case 5: return .blob(bytes(countMax: 40))
    case 6: return .malformedText(bytes(countMax: 20) + [0xff])
    default:
      let odd = [Double.infinity, -.infinity, -0.0, .leastNonzeroMagnitude]
      return .real(odd.randomElement(using: &self) ?? 0)
    }
  }

  mutating func bytes(countMax: Int) -> [UInt8] {
    (0..<Int.random(in: 0...countMax, using: &self)).map { _ in
      UInt8(truncatingIfNeeded: next())
    }
  }

  mutating func text() -> String {
    let pieces = ["a", "\"", "\\", "\n", "\u{0}", "é", "漢", "😀", "\u{1f}", "plain words ", "/"]
    let count = Int.random(in: 0..<12, using: &self)
    return (0..<count).map { _ in pieces.randomElement(using: &self) ?? "" }.joined()
  }
}

/// Writes with `body` and gives the text.
func written(_ body: (inout OutputBytes) -> Void) -> String {
  var output = OutputBytes()
  body(&output)
  return output.string
}

/// Reads one value of the line protocol from `text`.
func value(in text: String) throws(JSONError) -> Value {
  try ByteBuffer(string: text).withUnsafeReadableBytes { bytes throws(JSONError) in
    var reader = JSONReader(bytes)
    let value = try reader.value()
    try reader.end()
    return value
  }
}

func parse(_ line: String) throws(LineParseFailure) -> LineRequest? {
  try LineParser.parse(ByteBuffer(string: line))
}

/// The error of a line that must fail.
func failure(_ line: String) -> LineParseFailure? {
  do {
    _ = try parse(line)
    return nil
  } catch {
    return error
  }
}
