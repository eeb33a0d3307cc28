// A connection that writes, with what every transaction on it needs. The writer has one for all, and
// others for streams that must not share it.

import NIOCore
import Serving
import Store
import WALShip

/// It belongs to the writer's thread.
final class WritingConnection {
  let connection: Connection
  let executor: StatementExecutor
  private let limits: ServingLimits
  private let begins: Statement
  private let commits: Statement
  private let rollbacks: Statement
  private var enforcesForeignKeys = true

  /// - Parameter policy: what clients may do on it.
  init(_ connection: Connection, policy: AuthorizerPolicy, limits: ServingLimits) throws {
    self.connection = connection
    self.limits = limits
    begins = try connection.prepare("BEGIN IMMEDIATE")
    commits = try connection.prepare("COMMIT")
    rollbacks = try connection.prepare("ROLLBACK")
    executor = StatementExecutor(connection: connection, limits: limits)
    connection.policy = policy
  }

  var isAutocommit: Bool { connection.isAutocommit }

  /// Takes the write lock; another process may hold it for a while.
  func begin() throws(RequestError) {
    try control(begins)
    executor.beginRequest()
  }

  func commit() throws(RequestError) {
    do throws(RequestError) {
      try control(commits)
    } catch { throw error.ofCommit }
  }

  func rollback() {
    executor.endBudget()
    guard !connection.isAutocommit else { return }
    try? step(rollbacks)
  }

  /// Without effect inside of a transaction, as SQLite has it.
  func setForeignKeys(_ on: Bool) throws(RequestError) {
    guard on != enforcesForeignKeys, connection.isAutocommit else { return }
    let policy = connection.policy
    connection.policy = .engine
    defer { connection.policy = policy }
    do throws(SQLiteError) {
      try connection.execute("PRAGMA foreign_keys=\(on ? "ON" : "OFF")")
    } catch { throw RequestError(error) }
    enforcesForeignKeys = on
  }

  /// VACUUM cannot run inside a transaction.
  func vacuum(_ statement: StatementRequest) throws(RequestError) {
    executor.endBudget()
    do throws(RequestError) {
      try connection.allowingVacuum { () throws(RequestError) in
        var bytes = limits.responseBytesMax
        let compiled = try executor.prepare(statement.sql)
        _ = try executor.run(compiled, statement.arguments, bytesMax: &bytes)
      }
    } catch { throw error.ofCommit }
  }

  /// Runs a statement of the engine's own.
  func control(_ statement: Statement) throws(RequestError) {
    do throws(SQLiteError) {
      try step(statement)
    } catch { throw RequestError(error) }
  }

  func step(_ statement: Statement) throws(SQLiteError) {
    defer { statement.reset() }
    _ = try statement.step()
  }
}

extension StatementFacts {
  /// The end of a transaction, or of the savepoint that opened one.
  var mayCommit: Bool { transaction == .commit || savepoint == .release }
}

extension RequestError {
  /// What this error means where a COMMIT met it.
  ///
  /// When the disk fails, the commit mark can have been written although it could not be synced.
  /// Nobody sees the transaction then, but a start after a crash finds it in the WAL. SQLite says
  /// CORRUPT as well where the file system does.
  var ofCommit: RequestError {
    guard code.hasPrefix("SQLITE_IOERR") || code.hasPrefix("SQLITE_CORRUPT") else { return self }
    return RequestError(
      .outcomeUnknown, "the disk failed at the commit, which was made once, or not at all: \(self)")
  }
}

extension SQLText {
  /// Whether the text begins with the word VACUUM: such a statement runs outside of transactions.
  /// What it may do is for the authorizer to say.
  var isVacuum: Bool {
    StatementScanner.firstWords(of: self, 1) == ["vacuum"]
  }
}
