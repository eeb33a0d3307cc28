// What commands need of JSON beyond `JSONValue`: bytes in, text out, and members that may be
// missing.

import NIOCore
import Serving

enum JSONDocument {
  /// Answers hold large values, and a command reads one at a time.
  private static let limits = JSONValue.Limits(bytesMax: 1 << 30, valuesMax: 100_000_000)

  static func parse(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
    try JSONValue.parse(ByteBuffer(bytes: bytes), limits: limits)
  }

  /// The document on one line.
  static func text(_ value: JSONValue) -> String {
    var output = OutputBytes()
    value.write(into: &output)
    return output.string
  }
}

extension JSONValue {
  /// An object, from members in order.
  static func members(_ members: [(String, JSONValue)]) -> JSONValue {
    .object(members.map { Member($0.0, $0.1) })
  }

  /// The member called `name`; null when there is none: a node of another version may not send it.
  func member(_ name: String) -> JSONValue { self[name] ?? .null }

  var asString: String? { if case .string(let text) = self { text } else { nil } }
  var asBool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
  var asArray: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
  var isNull: Bool { if case .null = self { true } else { false } }

  var asInt: Int? {
    switch self {
    case .integer(let value): Int(value)
    case .real(let value): Int(exactly: value.rounded())
    case .null, .bool, .string, .array, .object: nil
    }
  }

  var asDouble: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .real(let value): value
    case .null, .bool, .string, .array, .object: nil
    }
  }
}

enum Base64Text {
  static func encode(_ bytes: [UInt8]) -> String {
    var output = OutputBytes()
    bytes.withUnsafeBytes { output.writeBase64($0) }
    return output.string
  }

  static func decode(_ text: String) -> [UInt8]? {
    Array(text.utf8).withUnsafeBytes { Base64.decode($0) }
  }
}
