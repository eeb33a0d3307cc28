// The answers of the line protocol, written into one piece of memory while the rows are stepped.
//
// It sees to commas and quotation, not to the order of the members nor to what a client may see.
// Source: docs/PROTOCOL.md

import NIOCore
import Store
import WALShip

/// Writes answers.
///
/// ```
/// writer.beginLine(id: request.id)
/// writer.columns(names)
/// writer.beginRows()
/// writer.beginRow(); writer.value(integer: 7); writer.value(text: bytes); writer.endRow()
/// writer.endRows()
/// writer.token(token)
/// writer.microseconds(41)
/// writer.endLine()
/// ```
public struct ResponseWriter: ~Copyable, Sendable {
  private var output: OutputBytes
  /// How INTEGER values and `last_rowid` are written.
  public var integers: IntegerStyle
  private var needsComma = false
  private var lineStart = 0

  /// - Parameter capacity: the bytes of memory to begin with; it grows and is kept.
  public init(integers: IntegerStyle = .number, capacity: Int = 4096) {
    output = OutputBytes(capacity: capacity)
    self.integers = integers
  }

  /// How many bytes have been written and not been taken.
  public var count: Int { output.count }

  /// Hands over what has been written. A line that was begun must be ended before.
  public mutating func take() -> ByteBuffer {
    lineStart = 0
    return output.take()
  }

  /// How long the line is so far.
  public var lineBytes: Int { output.count - lineStart }

  /// Begins the object of one line.
  public mutating func beginLine(id: ByteBuffer? = nil) {
    lineStart = output.count
    guard let id else {
      output.append(UInt8(ascii: "{"))
      needsComma = false
      return
    }
    output.append("{\"id\":")
    output.append(id)
    needsComma = true
  }

  /// Ends the object of the line, and the line.
  public mutating func endLine() {
    output.append("}\n")
  }

  /// Takes back the line that was begun last.
  public mutating func discardLine() {
    output.truncate(to: lineStart)
  }

  /// Appends text as it is, between lines: a table, or CSV.
  public mutating func plain(_ text: String) { output.append(text) }

  // MARK: Results

  /// Writes `"cols":[…]`.
  public mutating func columns(_ names: [String]) {
    beginArray("cols")
    for name in names { element(name) }
    endArray()
  }

  /// Writes `"cols":[…]` as `encodedColumns` prepared it: once for a statement that runs often.
  public mutating func columns(encoded: ByteBuffer) {
    if needsComma { output.append(UInt8(ascii: ",")) }
    output.append(encoded)
    needsComma = true
  }

  /// What `columns(encoded:)` takes.
  public static func encodedColumns(_ names: [String]) -> ByteBuffer {
    var writer = ResponseWriter()
    writer.columns(names)
    return writer.take()
  }

  public mutating func beginRows() { beginArray("rows") }
  public mutating func endRows() { endArray() }
  public mutating func beginRow() { open(UInt8(ascii: "[")) }
  public mutating func endRow() { close(UInt8(ascii: "]")) }

  /// Appends a NULL to the row.
  public mutating func nullValue() { put("null", ",null") }

  /// Appends an INTEGER to the row.
  public mutating func value(integer: Int64) {
    comma()
    output.writeJSONInteger(integer, style: integers)
  }

  /// Appends a REAL to the row.
  public mutating func value(real: Double) {
    comma()
    output.writeJSONReal(real)
  }

  /// Appends a TEXT to the row, valid UTF-8 or not.
  public mutating func value(text: UnsafeRawBufferPointer) {
    comma()
    output.writeJSONText(text)
  }

  /// Appends a BLOB to the row.
  public mutating func value(blob: UnsafeRawBufferPointer) {
    comma()
    output.writeJSONBlob(blob)
  }

  /// Appends any value to the row.
  public mutating func value(_ value: Value) {
    comma()
    output.writeJSON(value, integers: integers)
  }

  /// Writes `"changes":n`, and `"last_rowid":n` if there is one.
  public mutating func changes(_ count: Int, lastRowID: Int64? = nil) {
    member("changes", Int64(count))
    guard let lastRowID else { return }
    key("last_rowid")
    output.writeJSONInteger(lastRowID, style: integers)
    needsComma = true
  }

  /// Begins `"results":[…]`, which holds an object for each statement of a batch.
  public mutating func beginResults() { beginArray("results") }
  public mutating func endResults() { endArray() }
  public mutating func beginResult() { open(UInt8(ascii: "{")) }
  public mutating func endResult() { close(UInt8(ascii: "}")) }

  // MARK: The end of an answer

  /// Writes `"tx":true`: the connection is inside of a transaction.
  public mutating func inTransaction() { put("\"tx\":true", ",\"tx\":true") }

  /// Writes `"more":true`: another line follows for the same request.
  public mutating func more() { put("\"more\":true", ",\"more\":true") }

  /// Writes `"token":"e1.…"`.
  public mutating func token(_ token: Token) {
    put("\"token\":\"e1.", ",\"token\":\"e1.")
    output.writeHex(token.database, digits: 8)
    output.append(UInt8(ascii: "."))
    output.writeDecimal(UInt64(token.epoch.rawValue))
    output.append(UInt8(ascii: "."))
    output.writeDecimal(token.txid.rawValue)
    output.append(UInt8(ascii: "\""))
  }

  /// Writes `"us":n`: how long the request took.
  public mutating func microseconds(_ count: UInt64) {
    put("\"us\":", ",\"us\":")
    output.writeDecimal(count)
  }

  /// Writes `"error":{…}`.
  ///
  /// - Parameter failedStatement: which statement of a batch it was, from 0 on.
  public mutating func error(_ error: RequestError, failedStatement: Int? = nil) {
    beginObject("error")
    member("code", error.code)
    member("message", error.message)
    if let offset = error.offset { member("offset", Int64(offset)) }
    if let failedStatement { member("failed", Int64(failedStatement)) }
    member("retry", error.retry)
    endObject()
  }

  // MARK: Pieces

  @inline(__always)
  private mutating func comma() {
    if needsComma { output.append(UInt8(ascii: ",")) }
    needsComma = true
  }

  /// Writes a piece of text that needs a comma before it, or none: one write in either case.
  @inline(__always)
  private mutating func put(_ plain: StaticString, _ withComma: StaticString) {
    output.append(needsComma ? withComma : plain)
    needsComma = true
  }

  @inline(__always)
  private mutating func open(_ bracket: UInt8) {
    if needsComma {
      output.append(UInt8(ascii: ","))
    }
    output.append(bracket)
    needsComma = false
  }

  @inline(__always)
  private mutating func close(_ bracket: UInt8) {
    output.append(bracket)
    needsComma = true
  }
}

/// Members and elements of any name, for the answers of commands.
extension ResponseWriter {
  public mutating func member(_ name: StaticString, _ text: String) {
    key(name)
    output.writeJSONString(text)
    needsComma = true
  }

  public mutating func member(_ name: StaticString, _ number: Int64) {
    key(name)
    output.writeDecimal(number)
    needsComma = true
  }

  public mutating func member(_ name: StaticString, _ flag: Bool) {
    key(name)
    output.append(flag ? "true" : "false")
    needsComma = true
  }

  /// Writes bytes in base64.
  public mutating func member(_ name: StaticString, base64 bytes: ByteBuffer) {
    key(name)
    output.append(UInt8(ascii: "\""))
    bytes.withUnsafeReadableBytes { output.writeBase64($0) }
    output.append(UInt8(ascii: "\""))
    needsComma = true
  }

  public mutating func nullMember(_ name: StaticString) {
    key(name)
    output.append("null")
    needsComma = true
  }

  public mutating func beginObject(_ name: StaticString) {
    key(name)
    output.append(UInt8(ascii: "{"))
  }

  public mutating func endObject() { close(UInt8(ascii: "}")) }

  public mutating func beginArray(_ name: StaticString) {
    key(name)
    output.append(UInt8(ascii: "["))
  }

  public mutating func endArray() { close(UInt8(ascii: "]")) }

  /// Appends a string to an array.
  public mutating func element(_ text: String) {
    comma()
    output.writeJSONString(text)
  }

  /// Begins an object in an array; `endObject` ends it.
  public mutating func beginElement() { open(UInt8(ascii: "{")) }

  /// Writes a key that needs no escapes.
  private mutating func key(_ name: StaticString) {
    output.append(needsComma ? ",\"" : "\"")
    output.append(name)
    output.append("\":")
    needsComma = false
  }
}
