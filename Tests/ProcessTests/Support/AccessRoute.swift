// What can be asked of a node, by whatever protocol, and how it is refused: the rows of the table
// that is crossed with all bearers of credentials.

import EdgeTesting
import Serving

/// How a node took a request, whatever words its protocol has for it.
enum AccessOutcome: Equatable {
  case done
  /// No credential was shown.
  case missing
  /// The credential is not accepted.
  case refused
  /// It was good once.
  case expired
  /// It is good, but not for this.
  case denied
  /// There is no such database for this bearer.
  case unknownDatabase
  case other(String)

  /// What must come of a request.
  static func expected(_ bearer: Bearer, needs: AccessLevel) -> AccessOutcome {
    switch bearer.refusal {
    case .missing: return .missing
    case .invalid: return .refused
    case .expired: return .expired
    case nil: break
    }
    guard let level = bearer.level, level > .none else { return .unknownDatabase }
    return level >= needs ? .done : .denied
  }
}

/// One kind of request.
struct AccessRoute: Sendable, CustomStringConvertible {
  var name: String
  /// What must come of it.
  var expected: @Sendable (Bearer) -> AccessOutcome
  var ask: @Sendable (NodeProcess, String?) throws -> AccessOutcome
  var description: String { name }

  init(
    _ name: String, expected: @escaping @Sendable (Bearer) -> AccessOutcome,
    ask: @escaping @Sendable (NodeProcess, String?) throws -> AccessOutcome
  ) {
    self.name = name
    self.expected = expected
    self.ask = ask
  }

  /// - Parameter needs: the least that the bearer must be allowed to do with the database.
  init(
    _ name: String, needs: AccessLevel,
    ask: @escaping @Sendable (NodeProcess, String?) throws -> AccessOutcome
  ) {
    self.init(name, expected: { AccessOutcome.expected($0, needs: needs) }, ask: ask)
  }
}

extension AccessRoute {
  /// The routes of the line protocol. The node has a table `t`.
  static let line: [AccessRoute] = [
    line("read", .read, "SELECT count(*) FROM t"),
    line("read on the primary", .read, #"{"sql":"SELECT count(*) FROM t","read":"primary"}"#),
    line("read of what is not there", .read, "SELECT * FROM missing", "SQLITE_ERROR"),
    line("batch of reads", .read, #"{"batch":[{"sql":"SELECT 1"},{"sql":"SELECT 2"}]}"#),
    line("command", .read, ".tables"),
    line("token", .read, ".token"),
    line("BEGIN", .read, "BEGIN"),
    line("write", .write, "INSERT INTO t VALUES ('x')"),
    line("write with arguments", .write, #"["INSERT INTO t VALUES (?)","x"]"#),
    line("write that returns", .write, "DELETE FROM t WHERE 0 RETURNING *"),
    line("change of the schema", .write, "CREATE TABLE IF NOT EXISTS u(a)"),
    line("script", .write, "SELECT 1; INSERT INTO t VALUES ('x')"),
    line("batch", .write, #"{"batch":[{"sql":"SELECT 1"},{"sql":"INSERT INTO t VALUES ('x')"}]}"#),
    line("write with a CTE", .write, "WITH a AS (SELECT 'x') INSERT INTO t SELECT * FROM a"),
    line("write of what is not there", .write, "INSERT INTO missing VALUES (1)", "SQLITE_ERROR"),
    line("PRAGMA that writes", .write, "PRAGMA user_version = 7"),
    line("BEGIN IMMEDIATE", .write, "BEGIN IMMEDIATE"),
    line("BEGIN EXCLUSIVE", .write, "BEGIN EXCLUSIVE"),
    line("SAVEPOINT", .write, "SAVEPOINT a"),
    line("write in a transaction", .write, "BEGIN", "INSERT INTO t VALUES ('x')"),
    line("savepoint in a transaction", .write, "BEGIN", "SAVEPOINT a"),
    line("status", .admin, ".status"),
    line("pages", .admin, ".pages 0 0"),
    line("scrub", .admin, ".scrub"),
  ]

  /// - Parameter lines: the last one counts; an SQLite code at the end is what it may fail with.
  private static func line(
    _ name: String, _ needs: AccessLevel, _ lines: String...
  ) -> AccessRoute {
    var lines = lines
    let allowed = lines.last.flatMap { $0.hasPrefix("SQLITE_") ? $0 : nil }
    if allowed != nil { lines.removeLast() }
    let requests = lines
    return AccessRoute("line: \(name)", needs: needs) { node, token in
      let connection = try LineConnection(port: node.listenPort, transport: node.transport)
      let answer = try token.map { try connection.authenticate($0) }
      let shown = answer?.error
      var code: String?
      for request in requests { code = try connection.request(request).error }
      // After a bad credential there is none; of an expired one it is told again.
      if let shown {
        let isRefused = code == "AUTH_REQUIRED" || code == "AUTH_DENIED"
        guard shown == "AUTH_DENIED", isRefused else { return .other("\(shown), \(code ?? "")") }
        return answer?.message.contains("expired") == true ? .expired : .refused
      }
      switch code {
      case nil, allowed: return .done
      case "AUTH_REQUIRED": return .missing
      case "AUTH_DENIED": return .denied
      case "DATABASE_NOT_FOUND": return .unknownDatabase
      case let code?: return .other(code)
      }
    }
  }
}
