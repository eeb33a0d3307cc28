// Runs write requests inside SQLite transactions: several autocommit requests share one, each in a
// savepoint of its own, so that one fsync serves them all and a failure rolls back nothing but
// itself.

import NIOCore
import Serving
import Store
import WALShip

/// The writer's transactions. It belongs to the writer's thread.
final class WriteGroups {
  /// Requests that may share a transaction.
  static let requestsMax = 64

  private let database: PrimaryDatabase
  private let executor: StatementExecutor
  private let keys: IdempotencyKeys
  private let limits: ServingLimits
  private let begins: Statement
  private let commits: Statement
  private let rollbacks: Statement
  private let savepoint: Statement
  private let release: Statement
  private let rollbackTo: Statement

  init(database: PrimaryDatabase, limits: ServingLimits) throws {
    self.database = database
    self.limits = limits
    let connection = database.connection
    begins = try connection.prepare("BEGIN IMMEDIATE")
    commits = try connection.prepare("COMMIT")
    rollbacks = try connection.prepare("ROLLBACK")
    savepoint = try connection.prepare("SAVEPOINT edge_request")
    release = try connection.prepare("RELEASE edge_request")
    rollbackTo = try connection.prepare("ROLLBACK TO edge_request")
    keys = IdempotencyKeys(connection: connection)
    executor = StatementExecutor(connection: connection, limits: limits)
    connection.policy = .client
  }

  // MARK: Autocommit requests

  /// Runs requests and commits them, together where that is possible.
  func run(_ requests: [EngineRequest]) -> [EngineResponse] {
    if requests.count == 1 || requests.contains(where: needsToBeAlone) {
      return requests.map(runAlone)
    }
    return runTogether(requests) ?? requests.map(runAlone)
  }

  private func needsToBeAlone(_ request: EngineRequest) -> Bool {
    guard request.enforcesForeignKeys, case .write(let statements) = request.work else {
      return true
    }
    return statements.contains { $0.sql.isVacuum }
  }

  /// - Returns: nil when the group as a whole failed and nothing of it was done.
  private func runTogether(_ requests: [EngineRequest]) -> [EngineResponse]? {
    do throws(RequestError) {
      try begin()
    } catch {
      return requests.map { _ in .failed(error) }
    }
    var responses: [EngineResponse] = []
    for request in requests {
      guard let response = try? runInSavepoint(request) else {
        rollback()
        return nil
      }
      responses.append(response)
    }
    do throws(RequestError) {
      try commit()
      return responses
    } catch {
      rollback()
      if error.code == ErrorCode.outcomeUnknown.rawValue {
        return responses.map { $0.failure == nil ? .failed(error) : $0 }
      }
      // One of them is to blame, perhaps by a deferred foreign key: only that one may fail.
      return nil
    }
  }

  /// - Throws: when SQLite rolled back more than this request.
  private func runInSavepoint(_ request: EngineRequest) throws -> EngineResponse {
    try step(savepoint)
    let response = execute(request)
    guard !database.connection.isAutocommit else {
      throw RequestError(.badRequest, "the transaction was rolled back")
    }
    if response.failure != nil { try step(rollbackTo) }
    try step(release)
    return response
  }

  private func runAlone(_ request: EngineRequest) -> EngineResponse {
    guard case .write(let statements) = request.work else { return EngineResponse() }
    if statements.count == 1, statements[0].sql.isVacuum { return vacuum(statements[0], request) }
    do throws(RequestError) {
      try setForeignKeys(request.enforcesForeignKeys)
      try begin()
    } catch { return .failed(error) }
    defer { try? setForeignKeys(true) }
    let response = execute(request)
    if response.failure != nil {
      rollback()
      return response
    }
    do throws(RequestError) {
      try commit()
      return response
    } catch {
      rollback()
      return .failed(error)
    }
  }

  private func execute(_ request: EngineRequest) -> EngineResponse {
    guard case .write(let statements) = request.work else { return EngineResponse() }
    do throws(RequestError) {
      if let key = request.idempotencyKey, let known = try keys.response(for: key) { return known }
    } catch { return .failed(error) }
    executor.beginRequest()
    let response = run(
      statements, timeoutMilliseconds: request.timeoutMilliseconds, allowsControl: false)
    guard response.failure == nil, let key = request.idempotencyKey else { return response }
    do throws(RequestError) {
      try keys.remember(key, response)
      return response
    } catch { return .failed(error) }
  }

  /// VACUUM cannot run inside a transaction.
  private func vacuum(_ statement: StatementRequest, _ request: EngineRequest) -> EngineResponse {
    executor.endBudget()
    do throws(RequestError) {
      try database.connection.allowingVacuum { () throws(RequestError) in
        var bytes = limits.responseBytesMax
        let compiled = try executor.prepare(statement.sql)
        _ = try executor.run(compiled, statement.arguments, bytesMax: &bytes)
      }
      return EngineResponse(results: [StatementResult()])
    } catch {
      return .failed(error.ofCommit)
    }
  }

  // MARK: Interactive transactions

  /// Takes the write lock; another process may hold it for a while.
  func begin() throws(RequestError) {
    try control(begins)
    executor.beginRequest()
  }

  func rollback() {
    executor.endBudget()
    guard !database.connection.isAutocommit else { return }
    try? step(rollbacks)
  }

  func runInTransaction(
    _ statements: [StatementRequest], timeoutMilliseconds: Int?, enforcesForeignKeys: Bool
  ) -> EngineResponse {
    run(statements, timeoutMilliseconds: timeoutMilliseconds, allowsControl: true)
  }

  /// Runs the reads of a transaction again.
  ///
  /// - Throws: `SQLITE_BUSY_SNAPSHOT` when one of them gives another result by now.
  func verify(
    _ basis: TransactionBasis, timeoutMilliseconds: Int?
  ) throws(RequestError) {
    executor.beginBudget(milliseconds: timeoutMilliseconds)
    defer { executor.endBudget() }
    var bytes = limits.responseBytesMax
    for read in basis.reads {
      let statement = try executor.prepare(read.statement.sql)
      guard statement.isReadOnly else {
        throw RequestError(.badRequest, "the basis of a transaction holds reads only")
      }
      let result = try executor.run(statement, read.statement.arguments, bytesMax: &bytes)
      var hasher = ResultHasher()
      hasher.add(rows: result.rows)
      guard hasher.value == read.resultHash else {
        throw RequestError(
          code: "SQLITE_BUSY_SNAPSHOT",
          message: "what the transaction read has changed since: begin it again", retry: true)
      }
    }
  }

  // MARK: Statements

  private func run(
    _ statements: [StatementRequest], timeoutMilliseconds: Int?, allowsControl: Bool
  ) -> EngineResponse {
    executor.beginBudget(milliseconds: timeoutMilliseconds)
    defer { executor.endBudget() }
    var response = EngineResponse()
    var bytes = limits.responseBytesMax
    for (index, request) in statements.enumerated() {
      do throws(RequestError) {
        let statement = try executor.prepare(request.sql)
        let controls = statement.facts.transaction != nil || statement.facts.savepoint != nil
        if controls, !allowsControl {
          throw RequestError(
            .notAllowed,
            "a batch is one transaction already: BEGIN, COMMIT and the like have no place in it")
        }
        do throws(RequestError) {
          response.results.append(
            try executor.run(statement, request.arguments, bytesMax: &bytes))
        } catch { throw statement.facts.mayCommit ? error.ofCommit : error }
      } catch {
        response.failure = .init(error, statement: statements.count > 1 ? index : nil)
        return response
      }
    }
    return response
  }

  private func setForeignKeys(_ on: Bool) throws(RequestError) {
    guard on != enforcesForeignKeys else { return }
    let connection = database.connection
    connection.policy = .engine
    defer { connection.policy = .client }
    do throws(SQLiteError) {
      try connection.execute("PRAGMA foreign_keys=\(on ? "ON" : "OFF")")
    } catch { throw RequestError(error) }
    enforcesForeignKeys = on
  }
  private var enforcesForeignKeys = true

  private func commit() throws(RequestError) {
    do throws(RequestError) {
      try control(commits)
    } catch { throw error.ofCommit }
  }

  private func control(_ statement: Statement) throws(RequestError) {
    do throws(SQLiteError) {
      try step(statement)
    } catch { throw RequestError(error) }
  }

  private func step(_ statement: Statement) throws(SQLiteError) {
    defer { statement.reset() }
    _ = try statement.step()
  }
}

extension StatementFacts {
  /// The end of a transaction, or of the savepoint that opened one.
  fileprivate var mayCommit: Bool { transaction == .commit || savepoint == .release }
}

extension RequestError {
  /// What this error means where a COMMIT met it.
  ///
  /// When the disk fails, the commit mark can have been written although it could not be synced.
  /// Nobody sees the transaction then, but a start after a crash finds it in the WAL. SQLite says
  /// CORRUPT as well where the file system does.
  fileprivate var ofCommit: RequestError {
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
