// Runs the program of a stream on the writer's thread, step by step, as SQL says: statements outside
// of transactions commit each by itself, and a failed step stops nothing by itself.

import NIOCore
import Serving
import Store
import WALShip

/// One program.
final class ProgramRun {
  private let shared: WritingConnection
  private let connections: StreamConnections
  private let request: EngineRequest
  private let program: StreamProgram
  private let limits: ServingLimits
  private let newTransaction: () -> UInt64
  private let deadlineNanoseconds: UInt64

  /// The stream's transaction, while it is open.
  private(set) var open: OpenTransaction?
  /// The stream's own connection.
  private(set) var session: UInt64?
  private var sessionConnection: WritingConnection?
  private var enforcesForeignKeys: Bool
  private var rowid: Int64
  private var bytesLeft: Int
  /// The transaction was ended by its time limit. Until the client says that it knows, nothing more
  /// runs: it would run outside of the transaction that it was meant for.
  private var expired: RequestError?

  /// - Parameters:
  ///   - open: the transaction that the program goes on in.
  ///   - newTransaction: makes a number for a transaction.
  init(
    _ program: StreamProgram, _ request: EngineRequest, open: OpenTransaction?,
    shared: WritingConnection, connections: StreamConnections, limits: ServingLimits,
    newTransaction: @escaping () -> UInt64
  ) {
    self.program = program
    self.request = request
    self.open = open
    self.shared = shared
    self.connections = connections
    self.limits = limits
    self.newTransaction = newTransaction
    enforcesForeignKeys = request.enforcesForeignKeys
    rowid = program.lastInsertRowid
    bytesLeft = limits.responseBytesMax
    let milliseconds = limits.statementMilliseconds + limits.transactionMilliseconds
    deadlineNanoseconds = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
  }

  /// - Parameter verify: compares what the stream's transaction has read with what is so now.
  func run(
    verify: (TransactionBasis, WritingConnection) throws(RequestError) -> Void
  ) -> EngineResponse {
    if let id = program.session {
      guard let own = connections.connection(of: id) else {
        return .failed(
          RequestError(.streamExpired, "the TEMP objects of this stream are gone"))
      }
      session = id
      sessionConnection = own
    }
    if program.begins {
      do throws(RequestError) {
        let opened = try begin()
        if let basis = program.basis { try verify(basis, opened.connection) }
      } catch {
        open?.connection.rollback()
        open = nil
        return .failed(error)
      }
    }
    let outcomes = program.run(
      isAutocommit: { isAutocommit }, describe: { current.executor.outcome(describing: $0) },
      execute: { execute($0, wantsRows: $1) })
    try? shared.setForeignKeys(true)
    var response = EngineResponse(transaction: open?.id)
    response.steps = outcomes
    response.failure = expired.map { EngineResponse.Failure($0) }
    response.isAutocommit = isAutocommit
    response.enforcesForeignKeys = enforcesForeignKeys
    response.session = session
    return response
  }

  private var current: WritingConnection { open?.connection ?? sessionConnection ?? shared }
  private var isAutocommit: Bool { expired == nil && current.isAutocommit }

  // MARK: Steps

  private func execute(_ statement: StatementRequest, wantsRows: Bool) -> StepOutcome {
    do throws(RequestError) {
      return .result(try result(of: statement, wantsRows: wantsRows))
    } catch { return .failed(error) }
  }

  private func result(
    of request: StatementRequest, wantsRows: Bool
  ) throws(RequestError) -> StatementResult {
    checkTime()
    let compiled: Statement
    do throws(RequestError) {
      compiled = try prepare(request.sql)
    } catch { throw expired ?? error }
    let kind = StatementKind(compiled, sql: request.sql)
    if let expired {
      switch kind {
      case .rollback, .commit, .begin: self.expired = nil
      case .read, .write, .savepoint, .release, .rollbackTo, .setForeignKeys, .foreignKeys: break
      }
      if kind == .rollback { return StatementResult() }
      if self.expired != nil || kind == .commit { throw expired }
    }
    switch kind {
    case .begin: try begin()
    case .commit: try commit()
    case .rollback: try rollback()
    case .setForeignKeys(let enforces): if isAutocommit { enforcesForeignKeys = enforces }
    case .foreignKeys: return .foreignKeys(enforcesForeignKeys)
    case .savepoint, .release, .rollbackTo: try savepoint(kind, compiled, request)
    case .read: return try run(compiled, request, wantsRows)
    case .write: return try write(compiled, request, wantsRows)
    }
    return StatementResult()
  }

  /// Compiles a statement; one that needs TEMP objects gives the stream a connection of its own.
  private func prepare(_ sql: SQLText) throws(RequestError) -> Statement {
    do throws(RequestError) {
      let compiled = try current.executor.prepare(sql)
      if compiled.facts.usesTemporaryObjects, session == nil { try takeConnection() }
      return compiled
    } catch {
      guard session == nil, current.connection.refusedTemporaryObject else { throw error }
    }
    try takeConnection()
    return try current.executor.prepare(sql)
  }

  private func takeConnection() throws(RequestError) {
    let id = try connections.claim()
    session = id
    sessionConnection = connections.connection(of: id)
  }

  private func run(
    _ compiled: Statement, _ request: StatementRequest, _ wantsRows: Bool
  ) throws(RequestError) -> StatementResult {
    let connection = current
    guard open != nil || monotonicNanoseconds() < deadlineNanoseconds else {
      throw RequestError(.statementTimeout, "the statements before this one took too long")
    }
    connection.executor.beginBudget(milliseconds: milliseconds)
    connection.connection.lastInsertRowid = rowid
    defer {
      connection.executor.endBudget()
      rowid = connection.connection.lastInsertRowid
      // Some errors, and ON CONFLICT ROLLBACK, end the transaction.
      if open != nil, connection.isAutocommit { open = nil }
    }
    return try connection.executor.run(
      compiled, request.arguments, bytesMax: &bytesLeft, wantsRows: wantsRows, isDetailed: true)
  }

  private func write(
    _ compiled: Statement, _ request: StatementRequest, _ wantsRows: Bool
  ) throws(RequestError) -> StatementResult {
    guard isAutocommit else { return try run(compiled, request, wantsRows) }
    let connection = current
    if request.sql.isVacuum, !compiled.isExplain {
      try connection.vacuum(request)
      return StatementResult()
    }
    try connection.setForeignKeys(enforcesForeignKeys)
    try connection.begin()
    do throws(RequestError) {
      let result = try run(compiled, request, wantsRows)
      try connection.commit()
      return result
    } catch {
      connection.rollback()
      throw error
    }
  }

  // MARK: Transactions

  @discardableResult
  private func begin() throws(RequestError) -> OpenTransaction {
    guard current.isAutocommit else { throw .nested }
    let connection =
      if let sessionConnection { sessionConnection } else { try connections.spare() }
    try connection.setForeignKeys(enforcesForeignKeys)
    try connection.begin()
    let limit = UInt64(limits.transactionMilliseconds) * 1_000_000
    let opened = OpenTransaction(
      id: newTransaction(), deadlineNanoseconds: monotonicNanoseconds() + limit,
      connection: connection)
    open = opened
    return opened
  }

  private func commit() throws(RequestError) {
    guard let open else { throw .noTransaction(.commit) }
    // After some errors it stays open: a deferred foreign key can still be mended.
    defer { if open.connection.isAutocommit { self.open = nil } }
    try open.connection.commit()
  }

  private func rollback() throws(RequestError) {
    guard let open else { throw .noTransaction(.rollback) }
    open.connection.rollback()
    self.open = nil
  }

  private func savepoint(
    _ kind: StatementKind, _ compiled: Statement, _ request: StatementRequest
  ) throws(RequestError) {
    var statement = compiled
    if isAutocommit {
      switch kind {
      case .release(let name), .rollbackTo(let name): throw .noSavepoint(name)
      default: break
      }
      try begin()
      open?.endsWithSavepoint = true
      statement = try current.executor.prepare(request.sql)
    }
    if case .release(let name) = kind, let open, open.endsWithSavepoint,
      open.savepoints.isOutermost(name)
    {
      return try commit()
    }
    _ = try run(statement, request, false)
    open?.savepoints.note(kind)
  }

  // MARK: Time

  private func checkTime() {
    guard let open, monotonicNanoseconds() >= open.deadlineNanoseconds else { return }
    open.connection.rollback()
    self.open = nil
    expired = .expired(milliseconds: limits.transactionMilliseconds)
  }

  /// What the next statement may take: a transaction must not outlive its limit by much.
  private var milliseconds: Int? {
    guard let open else { return request.timeoutMilliseconds }
    let now = monotonicNanoseconds()
    let left = Int((open.deadlineNanoseconds - min(now, open.deadlineNanoseconds)) / 1_000_000) + 1
    return min(left, request.timeoutMilliseconds ?? .max)
  }
}
