// All tests that run nodes. One after the other: they need the processor, the disk and the clock
// for themselves.

import EdgeTesting
import Glibc
import Serving
import TestTraits
import Testing

/// The suite of suites of this folder's `Nodes`.
@Suite(.serialized, .programs) enum NodeTests {
  /// The large tests run too: gigabytes of disk, and minutes.
  static let isBig = getenv("EDGE_SQL_BIG") != nil
  /// The tests that wait for time limits run too, and those that stop nodes for long.
  static let runsFaults = getenv("EDGE_SQL_FAULTS") != nil
}

/// Prints a figure that a test measured.
func note(_ text: String) { print("figure: \(text)") }

extension WorkloadSet {
  /// Records what contradicts a promise, in the answers and in the file of a node.
  func require(in node: NodeProcess, sourceLocation: SourceLocation = #_sourceLocation) throws {
    for problem in try problems(in: node.database) {
      Issue.record("\(node.database): \(problem)", sourceLocation: sourceLocation)
    }
  }
}

/// A blob argument of a request.
func blob(_ bytes: [UInt8]) -> JSONValue {
  .object([.init("b64", .string(base64(bytes)))])
}

private func base64(_ bytes: [UInt8]) -> String {
  let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  var text: [UInt8] = []
  for start in stride(from: 0, to: bytes.count, by: 3) {
    let part = bytes[start..<min(start + 3, bytes.count)]
    var word: UInt32 = 0
    for (index, byte) in part.enumerated() { word |= UInt32(byte) << UInt32(16 - index * 8) }
    for digit in 0...part.count { text.append(digits[Int(word >> UInt32(18 - digit * 6) & 63)]) }
    text += [UInt8](repeating: UInt8(ascii: "="), count: 3 - part.count)
  }
  return String(decoding: text, as: UTF8.self)
}
