// Why a request failed, in words that clients can rely on.

/// A failed request: a stable code, a sentence, and whether the same request may be sent again.
///
/// Codes are the extended names of SQLite's result codes (`SQLITE_CONSTRAINT_UNIQUE`) or those of
/// `ErrorCode`.
/// Source: docs/PROTOCOL.md
public struct RequestError: Error, Equatable, Sendable, CustomStringConvertible {
  public var code: String
  public var message: String
  /// The byte of the SQL text at which the error was found, if SQLite tells.
  public var offset: Int?
  /// True when the request had no effect and repeating it is safe.
  public var retry: Bool

  public init(code: String, message: String, offset: Int? = nil, retry: Bool = false) {
    self.code = code
    self.message = message
    self.offset = offset
    self.retry = retry
  }

  public init(_ code: ErrorCode, _ message: String) {
    self.init(code: code.rawValue, message: message, retry: code.isRetryable)
  }

  public var description: String { "\(code): \(message)" }

  /// What a connection saw before it rested was of another database of that name.
  static func madeAnew(_ name: String) -> RequestError {
    RequestError(
      .tokenEpoch, "what this connection saw of \(name) is gone: the database was made anew")
  }

  /// A node has no database of this name, or the client may not know whether it has.
  public static func unknownDatabase(_ name: String) -> RequestError {
    RequestError(.databaseNotFound, "there is no database \(name.prefix(64)) on this node")
  }
}

/// The codes that are ours and not SQLite's.
public enum ErrorCode: String, Sendable, CaseIterable {
  case badRequest = "PROTOCOL"
  case wrongProtocol = "WRONG_PROTOCOL"
  case lineTooLong = "LINE_TOO_LONG"
  case authRequired = "AUTH_REQUIRED"
  case authDenied = "AUTH_DENIED"
  case readOnly = "READ_ONLY"
  case tokenInvalid = "TOKEN_INVALID"
  case tokenTimeout = "TOKEN_TIMEOUT"
  case tokenEpoch = "TOKEN_EPOCH"
  case statementTimeout = "STATEMENT_TIMEOUT"
  case transactionTimeout = "TRANSACTION_TIMEOUT"
  case responseTooLarge = "RESPONSE_TOO_LARGE"
  case primaryUnavailable = "PRIMARY_UNAVAILABLE"
  /// The link broke after a write was sent: it was applied once, or not at all.
  case outcomeUnknown = "OUTCOME_UNKNOWN"
  case overloaded = "OVERLOADED"
  case databaseNotFound = "DATABASE_NOT_FOUND"
  case databaseExists = "DATABASE_EXISTS"
  case notAllowed = "NOT_ALLOWED"
  /// The state that a stream had at the primary is gone.
  case streamExpired = "STREAM_EXPIRED"
  /// Pages of this node's file are damaged, and nothing is served from it.
  case damaged = "DAMAGED"

  var isRetryable: Bool {
    switch self {
    case .tokenTimeout, .primaryUnavailable, .overloaded, .transactionTimeout, .damaged: true
    case .badRequest, .wrongProtocol, .lineTooLong, .authRequired, .authDenied, .readOnly,
      .tokenInvalid, .tokenEpoch, .statementTimeout, .responseTooLarge, .outcomeUnknown,
      .databaseNotFound, .databaseExists, .notAllowed, .streamExpired:
      false
    }
  }
}
