// A JSON document as a tree, for what is small and read rarely: configuration, tests, HTTP bodies.
//
// Requests of the line protocol never become a tree; `LineParser` reads them with `JSONReader`.

import NIOCore

/// A JSON value. Objects keep the order of their members, and members with the same key.
public enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int64)
  case real(Double)
  case string(String)
  case array([JSONValue])
  case object([Member])

  public struct Member: Equatable, Sendable {
    public var key: String
    public var value: JSONValue
    public init(_ key: String, _ value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// What a document may cost. Its depth is limited by `JSONReader.depthMax`.
  public struct Limits: Sendable {
    public var bytesMax: Int
    /// Scalars, arrays and objects together.
    public var valuesMax: Int
    public init(bytesMax: Int = 16 << 20, valuesMax: Int = 1_000_000) {
      self.bytesMax = bytesMax
      self.valuesMax = valuesMax
    }
  }

  /// Reads a document.
  public static func parse(
    _ bytes: UnsafeRawBufferPointer, limits: Limits = Limits()
  ) throws(JSONError) -> JSONValue {
    guard bytes.count <= limits.bytesMax else {
      throw JSONError(
        offset: limits.bytesMax, reason: "the JSON text is longer than \(limits.bytesMax) bytes")
    }
    var reader = JSONReader(bytes)
    var valuesLeft = limits.valuesMax
    let value = try JSONValue(reading: &reader, valuesLeft: &valuesLeft)
    try reader.end()
    return value
  }

  public static func parse(
    _ buffer: ByteBuffer, limits: Limits = Limits()
  ) throws(JSONError) -> JSONValue {
    try buffer.withUnsafeReadableBytes { bytes throws(JSONError) in
      try parse(bytes, limits: limits)
    }
  }

  public static func parse(
    _ text: String, limits: Limits = Limits()
  ) throws(JSONError) -> JSONValue {
    try parse(ByteBuffer(string: text), limits: limits)
  }

  /// The value of the first member called `key`; nil if there is none, or if this is no object.
  public subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// The element at `index`; nil if there is none, or if this is no array.
  public subscript(index: Int) -> JSONValue? {
    guard case .array(let elements) = self, elements.indices.contains(index) else { return nil }
    return elements[index]
  }

  /// Appends the document to `output`, on one line. Numbers that JSON cannot express become null.
  public func write(into output: inout OutputBytes) {
    switch self {
    case .null: output.append("null")
    case .bool(let value): output.append(value ? "true" : "false")
    case .integer(let value): output.writeDecimal(value)
    case .real(let value):
      if !output.writeJSONNumber(value) { output.append("null") }
    case .string(let text): output.writeJSONString(text)
    case .array(let elements):
      output.append(UInt8(ascii: "["))
      for (at, element) in elements.enumerated() {
        if at > 0 { output.append(UInt8(ascii: ",")) }
        element.write(into: &output)
      }
      output.append(UInt8(ascii: "]"))
    case .object(let members):
      output.append(UInt8(ascii: "{"))
      for (at, member) in members.enumerated() {
        if at > 0 { output.append(UInt8(ascii: ",")) }
        output.writeJSONString(member.key)
        output.append(UInt8(ascii: ":"))
        member.value.write(into: &output)
      }
      output.append(UInt8(ascii: "}"))
    }
  }

  private init(reading reader: inout JSONReader, valuesLeft: inout Int) throws(JSONError) {
    let kind = try reader.kind()
    valuesLeft -= 1
    guard valuesLeft >= 0 else { throw reader.error("the JSON text has too many values") }
    switch kind {
    case .null:
      try reader.null()
      self = .null
    case .bool: self = .bool(try reader.bool())
    case .string: self = .string(try reader.string().string)
    case .number:
      switch try reader.number() {
      case .integer(let value): self = .integer(value)
      case .real(let value): self = .real(value)
      }
    case .array:
      var elements: [JSONValue] = []
      try reader.beginArray()
      while try reader.nextElement() {
        elements.append(try JSONValue(reading: &reader, valuesLeft: &valuesLeft))
      }
      self = .array(elements)
    case .object:
      var members: [Member] = []
      try reader.beginObject()
      while let key = try reader.nextKey() {
        let name = key.string
        members.append(Member(name, try JSONValue(reading: &reader, valuesLeft: &valuesLeft)))
      }
      self = .object(members)
    }
  }
}
