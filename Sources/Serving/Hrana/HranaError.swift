// Errors as Turso's clients know them.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOHTTP1

/// An error that is a part of an answer: a statement failed, and the rest of the request goes on.
struct HranaError: Equatable, Sendable {
  var code: String
  var message: String
  /// Our own code, or the extended one of SQLite.
  var extendedCode: String?

  init(code: String, message: String, extendedCode: String? = nil) {
    self.code = code
    self.message = message
    self.extendedCode = extendedCode
  }

  init(_ error: RequestError) {
    var error = error
    if error.code == "SQLITE_SCHEMA", !error.message.hasSuffix("schema has changed") {
      // So SQLite's compiler says after a change of the schema, of texts that name no table.
      error.code = "SQLITE_ERROR"
    }
    if error.code.hasPrefix("SQLITE_") {
      extendedCode = error.code
      if Self.isSyntax(error) {
        code = "SQL_PARSE_ERROR"
        message = "SQL string could not be parsed: \(error.message)"
      } else if error.code == "SQLITE_ERROR", let offset = error.offset {
        // The compiler says where: sqld takes this for the client's fault.
        code = "SQL_INPUT_ERROR"
        message = "SQL input error: \(error.message) (at offset \(offset))"
      } else {
        code = Self.primaryCode(error.code)
        message = "SQLite error: \(error.message)"
      }
      return
    }
    guard error.code != ErrorCode.badRequest.rawValue else {
      (code, message) = Self.badRequest(error.message)
      return
    }
    extendedCode = error.code
    message = error.message
    code =
      switch ErrorCode(rawValue: error.code) {
      case .overloaded: "TRANSACTION_BUSY"
      case .statementTimeout: "SQLITE_INTERRUPT"
      case .notAllowed: "SQLITE_AUTH"
      case .authDenied, .authRequired: "BLOCKED"
      case .readOnly: "SQLITE_READONLY"
      case .primaryUnavailable, .outcomeUnknown: "PROXY_ERROR"
      case .damaged: "SQLITE_CORRUPT"
      default: error.code
      }
  }

  /// Whether the text of the request is to blame, and not what is in the database.
  var isInput: Bool {
    Self.unparsable.contains(code)
      || ["SQL_INPUT_ERROR", "ARGS_INVALID", "ARGS_BOTH_POSITIONAL_AND_NAMED"].contains(code)
  }

  /// The text is no statement, or more than one.
  var isUnparsable: Bool { Self.unparsable.contains(code) }

  private static let unparsable = ["SQL_PARSE_ERROR", "SQL_NO_STATEMENT", "SQL_MANY_STATEMENTS"]

  /// Whether SQLite's parser refused the text, wherever it would run.
  static func isSyntax(_ error: RequestError) -> Bool {
    guard error.code == "SQLITE_ERROR" else { return false }
    return error.message.hasSuffix(": syntax error") || error.message == "incomplete input"
      || error.message.hasPrefix("unrecognized token")
  }

  /// What is wrong with a request, as sqld words it where it knows the case.
  private static func badRequest(_ message: String) -> (code: String, message: String) {
    if message.hasPrefix("there is no statement") {
      return ("SQL_NO_STATEMENT", "SQL string does not contain any statement")
    }
    if message.hasPrefix("several statements") {
      return ("SQL_MANY_STATEMENTS", "SQL string contains more than one statement")
    }
    if message.hasPrefix("the statement has ") {
      return ("ARGS_INVALID", "Arguments do not match SQL parameters: \(message)")
    }
    return ("SQL_INPUT_ERROR", message)
  }

  private static let primaryCodes: Set<Substring> = [
    "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY", "INTERRUPT", "IOERR",
    "CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL", "SCHEMA", "TOOBIG", "CONSTRAINT",
    "MISMATCH", "MISUSE", "NOLFS", "AUTH", "RANGE", "NOTADB",
  ]

  /// `SQLITE_CONSTRAINT` of `SQLITE_CONSTRAINT_UNIQUE`.
  private static func primaryCode(_ code: String) -> String {
    let words = code.split(separator: "_")
    guard words.count >= 2, primaryCodes.contains(words[1]) else { return "SQLITE_UNKNOWN" }
    return "SQLITE_\(words[1])"
  }

  func write(into output: inout OutputBytes) {
    output.append("{\"message\":")
    output.writeJSONString(message)
    output.append(",\"code\":")
    output.writeJSONString(code)
    if let extendedCode {
      output.append(",\"extended_code\":")
      output.writeJSONString(extendedCode)
    }
    output.append("}")
  }
}

/// The request as a whole cannot be answered.
enum HranaFailure: Error, Equatable, Sendable {
  /// It breaks the protocol: 400 with this text; a WebSocket is closed.
  case malformed(String)
  /// A request of the first clients asks for what such requests cannot do.
  case query(String)
  case streamExpired
  /// The credential does not reach for all of it; nothing was done.
  case forbidden(String)
  case overloaded(String)
  /// A token that is none.
  case token(RequestError)

  static let invalidBaton = malformed("Received an invalid baton")
  static let usedBaton = malformed("Received a baton that has already been used")
  static let closedStream = malformed("Stream for this baton was closed")

  var reply: HTTPReply {
    switch self {
    case .malformed(let text): HTTPReply(.badRequest, type: HTTPType.text, text: text)
    case .query(let text):
      HTTPReply(
        .badRequest, type: HTTPType.json, text: HTTPErrorBody.json("Query error: `\(text)`"))
    case .streamExpired:
      HTTPReply(
        .badRequest, type: HTTPType.json,
        text: """
          {"message":"The stream has expired due to inactivity","code":"STREAM_EXPIRED"}
          """)
    case .forbidden(let text):
      HTTPReply(.forbidden, type: HTTPType.json, text: HTTPErrorBody.json(text))
    case .overloaded(let text):
      HTTPReply(.tooManyRequests, type: HTTPType.json, text: HTTPErrorBody.json(text))
    case .token(let error): HTTPReply(.badRequest, error: HranaError(error))
    }
  }
}
