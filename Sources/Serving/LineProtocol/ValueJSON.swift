// SQLite values in the JSON of the line protocol, both ways.
//
// Every value comes back as it was sent: text that is not UTF-8, blobs and infinities are objects
// of one member.
// Source: docs/PROTOCOL.md, "Values"

import NIOCore
import Store

/// How INTEGER values are written: `.ints number|text`. Strings are for clients whose numbers are
/// doubles.
public enum IntegerStyle: Equatable, Sendable {
  case number, text
}

extension OutputBytes {
  /// Appends a value.
  public mutating func writeJSON(_ value: Value, integers: IntegerStyle = .number) {
    switch value {
    case .null: append("null")
    case .integer(let integer): writeJSONInteger(integer, style: integers)
    case .real(let real): writeJSONReal(real)
    case .text(var text):
      text.withUTF8 { _ = writeJSONString(UnsafeRawBufferPointer($0)) }
    case .malformedText(let bytes): bytes.withUnsafeBytes { writeJSONText($0) }
    case .blob(let bytes): bytes.withUnsafeBytes { writeJSONBlob($0) }
    }
  }

  /// Appends an INTEGER.
  @inline(__always)
  mutating func writeJSONInteger(_ value: Int64, style: IntegerStyle) {
    guard style == .text else {
      writeDecimal(value)
      return
    }
    append(UInt8(ascii: "\""))
    writeDecimal(value)
    append(UInt8(ascii: "\""))
  }

  /// Appends a REAL. SQLite knows no NaN and has NULL in its place.
  mutating func writeJSONReal(_ value: Double) {
    if writeJSONNumber(value) { return }
    if value.isNaN {
      append("null")
    } else if value > 0 {
      append("{\"real\":\"Infinity\"}")
    } else {
      append("{\"real\":\"-Infinity\"}")
    }
  }

  /// Appends a TEXT, which may be anything.
  mutating func writeJSONText(_ bytes: UnsafeRawBufferPointer) {
    if writeJSONString(bytes) { return }
    append("{\"text_b64\":\"")
    writeBase64(bytes)
    append("\"}")
  }

  /// Appends a BLOB.
  mutating func writeJSONBlob(_ bytes: UnsafeRawBufferPointer) {
    append("{\"b64\":\"")
    writeBase64(bytes)
    append("\"}")
  }
}

extension JSONReader {
  /// Reads an argument. A string is TEXT and never anything else; `true` and `false` are 1 and 0.
  public mutating func value() throws(JSONError) -> Value {
    switch try kind() {
    case .null:
      try null()
      return .null
    case .bool: return .integer(try bool() ? 1 : 0)
    case .string: return .text(try string().string)
    case .number:
      switch try number() {
      case .integer(let value): return .integer(value)
      case .real(let value): return .real(value)
      }
    case .object: return try taggedValue()
    case .array: throw error("an array cannot be a value")
    }
  }

  private mutating func taggedValue() throws(JSONError) -> Value {
    let start = offset
    let expected = JSONError(
      offset: start,
      reason:
        "as a value, an object must be {\"b64\":…}, {\"text_b64\":…} or {\"real\":\"Infinity\"}")
    try beginObject()
    guard let key = try nextKey(), try kind() == .string else { throw expected }
    let content = try string()
    let value: Value
    if key.matches("b64") {
      value = .blob(try decodedBase64(content))
    } else if key.matches("text_b64") {
      let bytes = try decodedBase64(content)
      let isUTF8 = bytes.withUnsafeBytes { JSONScan.isUTF8($0) }
      value = isUTF8 ? .text(String(decoding: bytes, as: UTF8.self)) : .malformedText(bytes)
    } else if key.matches("real"), content.matches("Infinity") {
      value = .real(.infinity)
    } else if key.matches("real"), content.matches("-Infinity") {
      value = .real(-.infinity)
    } else {
      throw expected
    }
    guard try nextKey() == nil else { throw expected }
    return value
  }

  private func decodedBase64(_ text: JSONText) throws(JSONError) -> [UInt8] {
    let bytes: [UInt8]?
    if text.hasEscapes {
      var unescaped = ByteBuffer()
      text.write(into: &unescaped)
      bytes = unescaped.withUnsafeReadableBytes { Base64.decode($0) }
    } else {
      bytes = Base64.decode(text.raw)
    }
    guard let bytes else {
      throw JSONError(offset: text.offset, reason: "this is not base64")
    }
    return bytes
  }
}
