// A strict pull parser for one JSON document: the caller asks for what it expects, in document
// order.
//
// It builds nothing and copies nothing; `JSONValue` is the tree for those who want one. Whether a
// key may come twice is for the caller to say.
// Source: RFC 8259

/// Why bytes are not the JSON that was expected.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The byte of the document at which it was seen.
  public var offset: Int
  public var reason: String
  public init(offset: Int, reason: String) {
    self.offset = offset
    self.reason = reason
  }
  public var description: String { "\(reason), at byte \(offset)" }
}

/// The kinds of JSON values.
public enum JSONKind: Equatable, Sendable {
  case null, bool, number, string, array, object
}

/// Reads one JSON document from bytes that outlive the reader.
///
/// An array is read with `beginArray()` and then a value after each `nextElement()` that is true;
/// an object with `beginObject()` and a value after each `nextKey()` that is not nil. After the
/// outermost value comes `end()`.
public struct JSONReader {
  /// How deep arrays and objects may nest.
  public static let depthMax = 64

  let bytes: UnsafeRawBufferPointer
  /// The byte that is read next.
  public internal(set) var offset = 0
  private var depth = 0
  private var atFirst = false

  public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// What the next value is, by its first byte.
  public mutating func kind() throws(JSONError) -> JSONKind {
    switch try firstByte() {
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    default: throw error("a value was expected")
    }
  }

  public mutating func beginArray() throws(JSONError) {
    try begin(UInt8(ascii: "["), "an array was expected")
  }

  /// Moves to the next element of the innermost array.
  ///
  /// - Returns: false at its end; the array is then closed.
  public mutating func nextElement() throws(JSONError) -> Bool {
    try next(closing: UInt8(ascii: "]"), "',' or ']' was expected")
  }

  public mutating func beginObject() throws(JSONError) {
    try begin(UInt8(ascii: "{"), "an object was expected")
  }

  /// Moves to the next member of the innermost object and reads its key.
  ///
  /// - Returns: nil at its end; the object is then closed.
  public mutating func nextKey() throws(JSONError) -> JSONText? {
    guard try next(closing: UInt8(ascii: "}"), "',' or '}' was expected") else { return nil }
    guard try firstByte() == UInt8(ascii: "\"") else {
      throw error("a key in quotation marks was expected")
    }
    let key = try string()
    guard try firstByte() == UInt8(ascii: ":") else { throw error("':' was expected") }
    offset += 1
    return key
  }

  public mutating func null() throws(JSONError) {
    try literal("null", "null was expected")
  }

  public mutating func bool() throws(JSONError) -> Bool {
    if try firstByte() == UInt8(ascii: "t") {
      try literal("true", "true or false was expected")
      return true
    }
    try literal("false", "true or false was expected")
    return false
  }

  /// Reads a string and checks it: UTF-8, escapes, surrogates in pairs, no control characters.
  public mutating func string() throws(JSONError) -> JSONText {
    guard try firstByte() == UInt8(ascii: "\"") else { throw error("a string was expected") }
    let start = offset + 1
    var at = JSONScan.cleanRun(bytes, from: start)
    var hasEscapes = false
    while true {
      guard at < bytes.count else {
        throw JSONError(offset: start - 1, reason: "the string has no end")
      }
      let byte = bytes[at]
      if byte == UInt8(ascii: "\"") { break }
      guard byte == UInt8(ascii: "\\") else {
        let reason =
          byte < 0x20 ? "a control character in a string must be escaped" : "this is not UTF-8"
        throw JSONError(offset: at, reason: reason)
      }
      hasEscapes = true
      at = JSONScan.cleanRun(bytes, from: try escapeEnd(at))
    }
    offset = at + 1
    return JSONText(
      raw: UnsafeRawBufferPointer(rebasing: bytes[start..<at]), offset: start,
      hasEscapes: hasEscapes)
  }

  /// Checks the next value, whatever it is, and goes past it.
  public mutating func skipValue() throws(JSONError) {
    switch try kind() {
    case .null: try null()
    case .bool: _ = try bool()
    case .number: _ = try numberToken()
    case .string: _ = try string()
    case .array:
      try beginArray()
      while try nextElement() { try skipValue() }
    case .object:
      try beginObject()
      while try nextKey() != nil { try skipValue() }
    }
  }

  /// Checks the next value and goes past it.
  ///
  /// - Returns: where its text lies in the document, nil when it is an array or an object, which
  ///   stays unread.
  public mutating func scalarRange() throws(JSONError) -> Range<Int>? {
    switch try kind() {
    case .array, .object: return nil
    case .null, .bool, .number, .string: break
    }
    let start = offset
    try skipValue()
    return start..<offset
  }

  /// Checks that nothing but white space follows.
  public mutating func end() throws(JSONError) {
    skipWhitespace()
    guard offset == bytes.count else { throw error("there is more after the end of the JSON text") }
  }

  static func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  func error(_ reason: String) -> JSONError { JSONError(offset: offset, reason: reason) }

  /// The byte that begins the next token.
  @inline(__always)
  mutating func firstByte() throws(JSONError) -> UInt8 {
    if offset < bytes.count, bytes[offset] > 0x20 { return bytes[offset] }
    skipWhitespace()
    guard offset < bytes.count else { throw error("the JSON text ends too early") }
    return bytes[offset]
  }
}

extension JSONReader {
  private mutating func skipWhitespace() {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0a, 0x0d: offset += 1
      default: return
      }
    }
  }

  private mutating func begin(_ bracket: UInt8, _ reason: StaticString) throws(JSONError) {
    guard try firstByte() == bracket else { throw error("\(reason)") }
    guard depth < Self.depthMax else {
      throw error("arrays and objects are nested deeper than \(Self.depthMax)")
    }
    depth += 1
    atFirst = true
    offset += 1
  }

  private mutating func next(
    closing bracket: UInt8, _ reason: StaticString
  ) throws(JSONError) -> Bool {
    let byte = try firstByte()
    if byte == bracket {
      offset += 1
      depth -= 1
      atFirst = false
      return false
    }
    if atFirst {
      atFirst = false
      return true
    }
    guard byte == UInt8(ascii: ",") else { throw error("\(reason)") }
    offset += 1
    return true
  }

  private mutating func literal(
    _ text: StaticString, _ reason: StaticString
  ) throws(JSONError) {
    _ = try firstByte()
    let count = text.utf8CodeUnitCount
    let matches = text.withUTF8Buffer { text in
      guard bytes.count - offset >= count else { return false }
      for at in 0..<count where bytes[offset + at] != text[at] { return false }
      return true
    }
    guard matches else { throw error("\(reason)") }
    offset += count
  }

  /// Checks the escape whose backslash is at `at`.
  ///
  /// - Returns: the offset behind it; behind both for a surrogate pair.
  private func escapeEnd(_ at: Int) throws(JSONError) -> Int {
    guard at + 1 < bytes.count else { throw JSONError(offset: at, reason: "the escape has no end") }
    switch bytes[at + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
      UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return at + 2
    case UInt8(ascii: "u"): break
    default: throw JSONError(offset: at, reason: "there is no such escape")
    }
    guard let unit = utf16Unit(at) else {
      throw JSONError(offset: at, reason: "four hexadecimal digits must follow \\u")
    }
    if unit < 0xd800 || unit > 0xdfff { return at + 6 }
    guard unit < 0xdc00, let low = utf16Unit(at + 6), low >= 0xdc00, low <= 0xdfff else {
      throw JSONError(offset: at, reason: "half of a surrogate pair stands alone")
    }
    return at + 12
  }

  /// The code unit of the `\uXXXX` at `at`; nil if there is none.
  private func utf16Unit(_ at: Int) -> UInt16? {
    guard bytes.count - at >= 6, bytes[at] == UInt8(ascii: "\\"),
      bytes[at + 1] == UInt8(ascii: "u")
    else { return nil }
    var unit: UInt16 = 0
    for byte in bytes[at + 2..<at + 6] {
      guard let digit = Self.hexDigit(byte) else { return nil }
      unit = unit << 4 | UInt16(digit)
    }
    return unit
  }
}
