// From the bytes of one line to a request. The first byte decides how the line is read.
//
// SQL is passed on as it is: not parsed, not checked for UTF-8, not copied.
// Source: docs/PROTOCOL.md

import NIOCore

/// Reads lines of the line protocol.
public enum LineParser {
  public static let statementsMax = 10_000
  /// SQLite's own limit. Source: https://www.sqlite.org/limits.html#max_variable_number
  public static let argumentsMax = 32_766
  /// The id comes back with every part of a streamed result, so it must not be large.
  public static let idBytesMax = 256
  public static let keyCharactersMax = 64

  /// Reads one line, without its line end.
  ///
  /// SQL texts and the id of the result lie in the memory of `line`: copy what outlives the
  /// request.
  /// - Returns: nil when the line asks for nothing and gets no answer: it is empty or only a
  ///   comment.
  public static func parse(_ line: ByteBuffer) throws(LineParseFailure) -> LineRequest? {
    try line.withUnsafeReadableBytes { bytes throws(LineParseFailure) in
      guard let start = bytes.firstIndex(where: { !isBlank($0) }) else { return nil }
      switch bytes[start] {
      case UInt8(ascii: "{"): return try LineObject.parse(line, bytes)
      case UInt8(ascii: "["): return try shortForm(line, bytes)
      case UInt8(ascii: "."): return try command(bytes[(start + 1)...])
      case UInt8(ascii: "-") where start + 1 < bytes.count && bytes[start + 1] == bytes[start]:
        return nil
      default:
        guard !bytes.contains(0) else { throw LineParseFailure(error: nulError) }
        return LineRequest(body: .script(SQLText(bytes: line)))
      }
    }
  }

  static let nulError = RequestError(.badRequest, "the SQL text contains a NUL character")

  private static func isBlank(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x20, 0x09, 0x0a, 0x0c, 0x0d: true
    default: false
    }
  }

  /// Reads `["SQL", arg, …]`.
  private static func shortForm(
    _ line: ByteBuffer, _ bytes: UnsafeRawBufferPointer
  ) throws(LineParseFailure) -> LineRequest {
    do throws(JSONError) {
      var json = JSONReader(bytes)
      try json.beginArray()
      guard try json.nextElement(), try json.kind() == .string else {
        throw json.error("the first element must be the SQL text, a string")
      }
      let sql = try json.sql(in: line)
      let values = try json.positionalArguments()
      try json.end()
      return LineRequest(
        body: .statement(
          StatementRequest(sql: sql, arguments: values.isEmpty ? .none : .positional(values))))
    } catch {
      throw LineParseFailure(error: RequestError(error))
    }
  }

  /// Reads the name of a command and its arguments: words, or anything in quotation marks of either
  /// kind, in which a doubled mark stands for one.
  private static func command(
    _ bytes: Slice<UnsafeRawBufferPointer>
  ) throws(LineParseFailure) -> LineRequest {
    let nameEnd = bytes.firstIndex(where: isBlank) ?? bytes.endIndex
    let name = String(decoding: bytes[..<nameEnd], as: UTF8.self)
    var arguments: [String] = []
    var rest = bytes[nameEnd...]
    while let start = rest.firstIndex(where: { !isBlank($0) }) {
      rest = rest[start...]
      if rest[start] == UInt8(ascii: "\"") || rest[start] == UInt8(ascii: "'") {
        arguments.append(try quotedWord(&rest))
      } else {
        let end = rest.firstIndex(where: isBlank) ?? rest.endIndex
        arguments.append(String(decoding: rest[..<end], as: UTF8.self))
        rest = rest[end...]
      }
    }
    return LineRequest(body: .command(name: name, arguments: arguments))
  }

  /// Takes a word in quotation marks from the beginning of `bytes`.
  private static func quotedWord(
    _ bytes: inout Slice<UnsafeRawBufferPointer>
  ) throws(LineParseFailure) -> String {
    let mark = bytes.removeFirst()
    var word: [UInt8] = []
    while let byte = bytes.popFirst() {
      if byte == mark {
        guard bytes.first == mark else { return String(decoding: word, as: UTF8.self) }
        bytes.removeFirst()
      }
      word.append(byte)
    }
    throw LineParseFailure(error: RequestError(.badRequest, "a quotation mark is not closed"))
  }
}

extension RequestError {
  /// A line that is not the JSON it should be.
  init(_ error: JSONError) { self.init(.badRequest, error.description) }
}
