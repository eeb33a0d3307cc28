// The JSON form of a request: `{"sql":…,"args":…,"token":…}`.
//
// Keys come in any order and each at most once. Unknown keys are errors, as a misspelt `token`
// would silently read old data. `null` says the same as leaving a key out, except for `id`, which
// it is.
// Source: docs/PROTOCOL.md

import NIOCore
import Store
import WALShip

/// A request object while it is read.
struct LineObject {
  enum Key: UInt16, CaseIterable {
    case id, sql, args, batch, token, read, maxLag, wait, onLag, key, timeout, db, auth
  }

  private enum ReadWord {
    case local, bounded, latest, primary
  }

  private let line: ByteBuffer
  private var json: JSONReader
  /// A bit for each key that was read.
  private var seen: UInt16 = 0
  private var id: ByteBuffer?
  private var sql: SQLText?
  private var arguments: Arguments?
  private var batch: [StatementRequest]?
  private var tokenText: JSONText?
  private var read = ReadWord.local
  private var maxLagMilliseconds: Int?
  private var credential: String?
  private var options = RequestOptions()

  /// Reads a line that is a JSON object.
  static func parse(
    _ line: ByteBuffer, _ bytes: UnsafeRawBufferPointer
  ) throws(LineParseFailure) -> LineRequest {
    var object = LineObject(line, bytes)
    do {
      try object.readMembers()
    } catch {
      // The id may stand behind what is wrong.
      throw LineParseFailure(error: RequestError(error), id: findID(line, bytes))
    }
    do {
      return try object.request()
    } catch {
      throw LineParseFailure(error: error, id: object.id)
    }
  }

  private init(_ line: ByteBuffer, _ bytes: UnsafeRawBufferPointer) {
    self.line = line
    json = JSONReader(bytes)
  }

  private mutating func readMembers() throws(JSONError) {
    try json.beginObject()
    while let name = try json.nextKey() {
      guard let key = Key(name) else { throw Self.unknown(name) }
      guard seen & key.bit == 0 else {
        throw JSONError(offset: name.offset, reason: "\"\(key.name)\" appears twice")
      }
      seen |= key.bit
      if key == .id {
        id = try json.id(in: line)
      } else if try json.kind() == .null {
        try json.null()
      } else {
        try readValue(of: key)
      }
    }
    try json.end()
  }

  private mutating func readValue(of key: Key) throws(JSONError) {
    switch key {
    case .id: break
    case .sql:
      guard try json.kind() == .string else { throw expected(key, "a string", at: json.offset) }
      sql = try json.sql(in: line)
    case .args: arguments = try json.arguments()
    case .batch: batch = try json.batch(in: line)
    case .token: tokenText = try text(key)
    case .read:
      read = try word(
        key,
        ("local", .local), ("bounded", .bounded), ("latest", .latest), ("primary", .primary))
    case .maxLag: maxLagMilliseconds = try milliseconds(key, from: 0)
    case .wait: options.waitMilliseconds = try milliseconds(key, from: 0)
    case .onLag:
      options.lagPolicy = try word(key, ("forward", .forward), ("error", .error), ("stale", .stale))
    case .key:
      let start = json.offset
      let text = try string(key)
      guard !text.isEmpty, text.unicodeScalars.count <= LineParser.keyCharactersMax else {
        throw JSONError(
          offset: start, reason: "\"key\" must have 1 to \(LineParser.keyCharactersMax) characters")
      }
      options.idempotencyKey = text
    case .timeout: options.timeoutMilliseconds = try milliseconds(key, from: 1)
    case .db: options.database = try string(key)
    case .auth: credential = try string(key)
    }
  }

  /// Puts together what was read.
  private mutating func request() throws(RequestError) -> LineRequest {
    if let tokenText {
      guard let token = Token(tokenText) else {
        throw RequestError(.tokenInvalid, "\"token\" is not a token of this system")
      }
      options.token = token
    }
    options.read = try readMode()
    guard arguments == nil || sql != nil else {
      throw RequestError(.badRequest, "\"args\" needs \"sql\"")
    }
    return LineRequest(id: id, body: try body(), options: options)
  }

  private func readMode() throws(RequestError) -> ReadMode {
    switch (read, maxLagMilliseconds) {
    case (.bounded, let milliseconds?): return .bounded(maxLagMilliseconds: milliseconds)
    case (.bounded, nil):
      throw RequestError(.badRequest, "\"read\":\"bounded\" needs \"max_lag_ms\"")
    case (_, _?):
      throw RequestError(.badRequest, "\"max_lag_ms\" is only for \"read\":\"bounded\"")
    case (.local, nil): return .local
    case (.latest, nil): return .latest
    case (.primary, nil): return .primary
    }
  }

  private func body() throws(RequestError) -> LineRequest.Body {
    switch (sql, batch, credential) {
    case (nil, nil, nil): return .none
    case (let sql?, nil, nil):
      return .statement(StatementRequest(sql: sql, arguments: arguments ?? .none))
    case (nil, let batch?, nil): return .batch(batch)
    case (nil, nil, let credential?): return .authenticate(credential)
    default:
      throw RequestError(
        .badRequest, "only one of \"sql\", \"batch\" and \"auth\" can be in a request")
    }
  }

  /// The id of a line in which something else is wrong.
  private static func findID(_ line: ByteBuffer, _ bytes: UnsafeRawBufferPointer) -> ByteBuffer? {
    var json = JSONReader(bytes)
    do {
      try json.beginObject()
      while let key = try json.nextKey() {
        if key.matches("id") { return try json.id(in: line) }
        try json.skipValue()
      }
    } catch {
      // What is wrong was already told.
    }
    return nil
  }

  private static func unknown(_ key: JSONText) -> JSONError {
    let name = key.string
    let shown = name.prefix(64)
    let near = Suggestion.nearest(to: name, in: Key.allCases.map { "\($0.name)" })
    let hint = near.map { ", did you mean \"\($0)\"?" } ?? ""
    return JSONError(offset: key.offset, reason: "there is no key \"\(shown)\"\(hint)")
  }
}

/// Values of the kinds that keys ask for.
extension LineObject {
  private func expected(_ key: Key, _ kind: String, at offset: Int) -> JSONError {
    JSONError(offset: offset, reason: "\"\(key.name)\" must be \(kind)")
  }

  private mutating func text(_ key: Key) throws(JSONError) -> JSONText {
    guard try json.kind() == .string else { throw expected(key, "a string", at: json.offset) }
    return try json.string()
  }

  private mutating func string(_ key: Key) throws(JSONError) -> String { try text(key).string }

  private mutating func word<Word>(
    _ key: Key, _ words: (name: StaticString, word: Word)...
  ) throws(JSONError) -> Word {
    let isString = try json.kind() == .string
    let start = json.offset
    if isString {
      let text = try json.string()
      for known in words where text.matches(known.name) { return known.word }
    }
    let names = words.map { "\"\($0.name)\"" }.joined(separator: ", ")
    throw expected(key, "one of \(names)", at: start)
  }

  private mutating func milliseconds(_ key: Key, from least: Int64) throws(JSONError) -> Int {
    let most = Int64(Int32.max)
    let isNumber = try json.kind() == .number
    let start = json.offset
    guard isNumber, case .integer(let value) = try json.number(), value >= least, value <= most
    else { throw expected(key, "an integer from \(least) to \(most)", at: start) }
    return Int(value)
  }
}

extension LineObject.Key {
  var bit: UInt16 { 1 << rawValue }

  var name: StaticString {
    switch self {
    case .id: "id"
    case .sql: "sql"
    case .args: "args"
    case .batch: "batch"
    case .token: "token"
    case .read: "read"
    case .maxLag: "max_lag_ms"
    case .wait: "wait_ms"
    case .onLag: "on_lag"
    case .key: "key"
    case .timeout: "timeout_ms"
    case .db: "db"
    case .auth: "auth"
    }
  }

  /// The key called `text`; nil if there is none.
  init?(_ text: JSONText) {
    for key in Self.allCases where text.matches(key.name) {
      self = key
      return
    }
    return nil
  }
}
