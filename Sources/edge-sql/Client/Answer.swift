// An answer line of a node, and what commands read in it.

import Serving

/// One line that came back: a whole answer, or a part of a stream.
struct Answer {
  /// The line as it came, without its end.
  let line: [UInt8]
  /// `.null` when the line is not a JSON object: commands such as `.help` may answer with plain
  /// text.
  let json: JSONValue

  init(line: [UInt8]) {
    self.line = line
    let isObject = line.first == UInt8(ascii: "{")
    json = isObject ? (try? JSONDocument.parse(line)) ?? .null : .null
  }

  var text: String { String(decoding: line, as: UTF8.self) }
  var isJSON: Bool { if case .object = json { true } else { false } }

  /// More lines of the same answer follow.
  var hasMore: Bool { json.member("more").asBool == true }
  var token: String? { json.member("token").asString }
  /// Whether there is anything of a statement in it, as opposed to the answer of a command.
  var isResult: Bool {
    ["cols", "rows", "changes", "results"].contains { json[$0] != nil }
  }
  /// How long the node worked on it.
  var microseconds: Int? { json.member("us").asInt }
  /// Whether the connection is inside a transaction after this.
  var isInTransaction: Bool { json.member("tx").asBool == true }

  /// The failure that the node answered with.
  var error: ServerError? {
    let error = json.member("error")
    if let message = error.asString { return ServerError(code: "ERROR", message: message) }
    guard case .object = error else { return nil }
    return ServerError(
      code: error.member("code").asString ?? "ERROR",
      message: error.member("message").asString ?? "no message",
      canRetry: error.member("retry").asBool ?? false, isInTransaction: isInTransaction)
  }

  /// What one statement gave; of a batch, one for each statement.
  var results: [StatementResult] {
    if let results = json.member("results").asArray { return results.map(StatementResult.init) }
    return [StatementResult(json)]
  }
}

/// The result of one statement.
struct StatementResult {
  /// Nil for a statement without a result table, and in the later lines of a stream.
  var columns: [String]?
  var rows: [[JSONValue]]
  var changes: Int?
  var lastRowid: Int?

  init(_ json: JSONValue) {
    columns = json.member("cols").asArray?.map { $0.asString ?? "" }
    rows = json.member("rows").asArray?.map { $0.asArray ?? [] } ?? []
    changes = json.member("changes").asInt
    lastRowid = json.member("last_rowid").asInt
  }
}
