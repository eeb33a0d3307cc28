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

  private let shared: WritingConnection
  private let keys: IdempotencyKeys
  private let limits: ServingLimits
  private let savepoint: Statement
  private let release: Statement
  private let rollbackTo: Statement

  /// - Parameter shared: the connection that all clients share.
  init(_ shared: WritingConnection, limits: ServingLimits) throws {
    self.shared = shared
    self.limits = limits
    let connection = shared.connection
    connection.policy = .engine
    defer { connection.policy = .client }
    savepoint = try connection.prepare("SAVEPOINT edge_request")
    release = try connection.prepare("RELEASE edge_request")
    rollbackTo = try connection.prepare("ROLLBACK TO edge_request")
    keys = IdempotencyKeys(connection: connection)
  }

  private var executor: StatementExecutor { shared.executor }

  // MARK: Autocommit requests

  /// Runs requests and commits them, together where that is possible.
  ///
  /// - Parameter program: runs a program that shares its transaction with nobody.
  func run(
    _ requests: [EngineRequest], program: (StreamProgram, EngineRequest) -> EngineResponse
  ) -> [EngineResponse] {
    func alone(_ request: EngineRequest) -> EngineResponse {
      if case .program(let steps) = request.work { return program(steps, request) }
      return runAlone(request)
    }
    if requests.count == 1 || requests.contains(where: needsToBeAlone) {
      return requests.map(alone)
    }
    return runTogether(requests) ?? requests.map(alone)
  }

  private func needsToBeAlone(_ request: EngineRequest) -> Bool {
    switch request.work {
    case .write(let statements):
      !request.enforcesForeignKeys || statements.contains { $0.sql.isVacuum }
    case .program(let program): !request.enforcesForeignKeys || !program.isOneWrite
    case .read, .position, .begin, .proceed, .abandon, .leave, .push: true
    }
  }

  /// - Returns: nil when the group as a whole failed and nothing of it was done.
  private func runTogether(_ requests: [EngineRequest]) -> [EngineResponse]? {
    do throws(RequestError) {
      try shared.begin()
    } catch {
      return requests.map { _ in .failed(error) }
    }
    var responses: [EngineResponse] = []
    for request in requests {
      guard let response = try? runInGroup(request) else {
        shared.rollback()
        return nil
      }
      responses.append(response)
    }
    do throws(RequestError) {
      try shared.commit()
      return responses
    } catch {
      shared.rollback()
      if error.code == ErrorCode.outcomeUnknown.rawValue {
        return responses.map { $0.failure == nil ? .failed(error) : $0 }
      }
      // One of them is to blame, perhaps by a deferred foreign key: only that one may fail.
      return nil
    }
  }

  /// - Throws: when SQLite rolled back more than this request, or the request cannot be in a group.
  private func runInGroup(_ request: EngineRequest) throws(RequestError) -> EngineResponse {
    if case .program(let program) = request.work {
      return try run(program, timeoutMilliseconds: request.timeoutMilliseconds)
    }
    return try inSavepoint { () throws(RequestError) in
      let response = execute(request)
      return (response, isOK: response.failure == nil)
    }
  }

  private func inSavepoint<T>(
    _ body: () throws(RequestError) -> (T, isOK: Bool)
  ) throws(RequestError) -> T {
    try shared.control(savepoint)
    let (result, isOK) = try body()
    guard !shared.isAutocommit else {
      throw RequestError(.badRequest, "the transaction was rolled back")
    }
    if !isOK { try shared.control(rollbackTo) }
    try shared.control(release)
    return result
  }

  /// Runs the program of a stream within the transaction of a group, as if it had committed what it
  /// wrote: if the group fails, it runs again alone.
  private func run(
    _ program: StreamProgram, timeoutMilliseconds: Int?
  ) throws(RequestError) -> EngineResponse {
    var bytes = limits.responseBytesMax
    executor.beginRequest()
    shared.connection.lastInsertRowid = program.lastInsertRowid
    defer { executor.endBudget() }
    var response = EngineResponse()
    response.steps = try program.run(
      isAutocommit: { true }, describe: { executor.outcome(describing: $0) }
    ) { (request, wantsRows) throws(RequestError) in
      let compiled: Statement
      do throws(RequestError) {
        compiled = try executor.prepare(request.sql)
      } catch {
        guard !shared.connection.refusedTemporaryObject else { throw error }
        return .failed(error)
      }
      let kind = StatementKind(compiled, sql: request.sql)
      guard kind == .read || kind == .write else {
        throw RequestError(.badRequest, "the statement cannot share a transaction")
      }
      executor.beginBudget(milliseconds: timeoutMilliseconds)
      return try inSavepoint { () throws(RequestError) in
        do throws(RequestError) {
          let result = try executor.run(
            compiled, request.arguments, bytesMax: &bytes, wantsRows: wantsRows, isDetailed: true)
          return (.result(result), isOK: true)
        } catch { return (.failed(error), isOK: false) }
      }
    }
    return response
  }

  private func runAlone(_ request: EngineRequest) -> EngineResponse {
    guard case .write(let statements) = request.work else { return EngineResponse() }
    if statements.count == 1, statements[0].sql.isVacuum { return vacuum(statements[0]) }
    do throws(RequestError) {
      try shared.setForeignKeys(request.enforcesForeignKeys)
      try shared.begin()
    } catch { return .failed(error) }
    defer { try? shared.setForeignKeys(true) }
    let response = execute(request)
    if response.failure != nil {
      shared.rollback()
      return response
    }
    do throws(RequestError) {
      try shared.commit()
      return response
    } catch {
      shared.rollback()
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
      statements, on: shared, timeoutMilliseconds: request.timeoutMilliseconds,
      allowsControl: false)
    guard response.failure == nil, let key = request.idempotencyKey else { return response }
    do throws(RequestError) {
      try keys.remember(key, response)
      return response
    } catch { return .failed(error) }
  }

  private func vacuum(_ statement: StatementRequest) -> EngineResponse {
    do throws(RequestError) {
      try shared.vacuum(statement)
      return EngineResponse(results: [StatementResult()])
    } catch { return .failed(error) }
  }

  // MARK: Interactive transactions

  func runInTransaction(
    _ statements: [StatementRequest], on connection: WritingConnection, timeoutMilliseconds: Int?
  ) -> EngineResponse {
    run(
      statements, on: connection, timeoutMilliseconds: timeoutMilliseconds, allowsControl: true)
  }

  /// Runs the reads of a transaction again.
  ///
  /// - Throws: `SQLITE_BUSY_SNAPSHOT` when one of them gives another result by now.
  func verify(
    _ basis: TransactionBasis, on connection: WritingConnection, timeoutMilliseconds: Int?
  ) throws(RequestError) {
    let executor = connection.executor
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
    _ statements: [StatementRequest], on connection: WritingConnection, timeoutMilliseconds: Int?,
    allowsControl: Bool
  ) -> EngineResponse {
    let executor = connection.executor
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
}
