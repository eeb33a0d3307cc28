// SQL texts, arguments and batches in requests of the line protocol.
//
// Source: docs/PROTOCOL.md

import NIOCore
import Store

extension JSONReader {
  /// Reads a SQL text. Without escapes it stays where it lies in `line`, the document of this
  /// reader.
  mutating func sql(in line: ByteBuffer) throws(JSONError) -> SQLText {
    let text = try string()
    if !text.hasEscapes, let slice = line.slice(text.offset, count: text.raw.count) {
      return SQLText(bytes: slice)
    }
    var buffer = ByteBuffer()
    text.write(into: &buffer)
    guard !buffer.readableBytesView.contains(0) else {
      throw JSONError(offset: text.offset, reason: LineParser.nulError.message)
    }
    return SQLText(bytes: buffer)
  }

  /// Reads the id of a request: any scalar, as it is written.
  mutating func id(in line: ByteBuffer) throws(JSONError) -> ByteBuffer? {
    guard let range = try scalarRange() else {
      throw error("\"id\" must be a string, a number, true, false or null")
    }
    guard range.count <= LineParser.idBytesMax else {
      throw JSONError(
        offset: range.lowerBound,
        reason: "\"id\" must not be longer than \(LineParser.idBytesMax) bytes")
    }
    return line.slice(range.lowerBound, count: range.count)
  }

  /// Reads arguments: an array by position, an object by name.
  mutating func arguments() throws(JSONError) -> Arguments {
    switch try kind() {
    case .array:
      try beginArray()
      let values = try positionalArguments()
      return values.isEmpty ? .none : .positional(values)
    case .object:
      let values = try namedArguments()
      return values.isEmpty ? .none : .named(values)
    case .null, .bool, .number, .string:
      throw error("\"args\" must be an array or an object")
    }
  }

  /// Reads what is left of an array as values.
  mutating func positionalArguments() throws(JSONError) -> [Value] {
    var values: [Value] = []
    values.reserveCapacity(4)
    while try nextElement() {
      guard values.count < LineParser.argumentsMax else { throw tooManyArguments }
      values.append(try value())
    }
    return values
  }

  private mutating func namedArguments() throws(JSONError) -> [Arguments.NamedValue] {
    var values: [Arguments.NamedValue] = []
    var names: Set<String> = []
    try beginObject()
    while let key = try nextKey() {
      guard values.count < LineParser.argumentsMax else { throw tooManyArguments }
      let name = key.string
      // Few are compared one by one: hashing costs more.
      let isNew =
        values.count < 16
        ? !values.contains { $0.name == name }
        : insert(name, into: &names, with: values)
      guard isNew else {
        throw JSONError(
          offset: key.offset, reason: "the argument \"\(name.prefix(64))\" appears twice")
      }
      values.append(Arguments.NamedValue(name: name, value: try value()))
    }
    return values
  }

  /// Whether `name` is not among `names`, which are those of `values` as soon as one is asked for.
  private func insert(
    _ name: String, into names: inout Set<String>, with values: [Arguments.NamedValue]
  ) -> Bool {
    if names.isEmpty { names = Set(values.lazy.map(\.name)) }
    return names.insert(name).inserted
  }

  private var tooManyArguments: JSONError {
    error("a statement has at most \(LineParser.argumentsMax) arguments")
  }

  /// Reads an array of `{"sql":…,"args":…}`.
  mutating func batch(in line: ByteBuffer) throws(JSONError) -> [StatementRequest] {
    guard try kind() == .array else { throw error("\"batch\" must be an array of objects") }
    var statements: [StatementRequest] = []
    try beginArray()
    while try nextElement() {
      guard statements.count < LineParser.statementsMax else {
        throw error("a batch has at most \(LineParser.statementsMax) statements")
      }
      statements.append(try statement(in: line))
    }
    return statements
  }

  private mutating func statement(in line: ByteBuffer) throws(JSONError) -> StatementRequest {
    guard try kind() == .object else {
      throw error("a statement of a batch must be {\"sql\":…,\"args\":…}")
    }
    let start = offset
    var text: SQLText?
    var values: Arguments?
    try beginObject()
    while let key = try nextKey() {
      if key.matches("sql"), text == nil {
        guard try kind() == .string else { throw error("\"sql\" must be a string") }
        text = try sql(in: line)
      } else if key.matches("args"), values == nil {
        if try kind() == .null {
          try null()
          values = Arguments.none
        } else {
          values = try arguments()
        }
      } else {
        throw JSONError(
          offset: key.offset,
          reason: "a statement of a batch has one \"sql\", one \"args\" at most and nothing else")
      }
    }
    guard let text else {
      throw JSONError(offset: start, reason: "a statement of a batch needs \"sql\"")
    }
    return StatementRequest(sql: text, arguments: values ?? .none)
  }
}

extension ByteBuffer {
  /// The readable bytes from `offset` on, in the same memory.
  fileprivate func slice(_ offset: Int, count: Int) -> ByteBuffer? {
    getSlice(at: readerIndex + offset, length: count)
  }
}
