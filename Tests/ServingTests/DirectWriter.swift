// A primary's engine as small as it can be: one thread, one connection, a capture after each
// commit. It is what the sessions under test talk to; the database, the WAL and the positions are
// real.

import NIOCore
import Serving
import Store
import Synchronization
import WALShip

final class DirectWriter: PrimaryAccess, @unchecked Sendable {  // the database belongs to `thread`
  let tracker: PositionTracker
  let logWatch: LogWatch
  let pages: PageSource
  private let thread = DatabaseThread()
  private let database: PrimaryDatabase
  private let executor: StatementExecutor
  private var open: UInt64?
  private var nextTransaction: UInt64 = 0
  /// The requests so far.
  let log = Mutex<[EngineRequest]>([])
  /// Commits are numbered only when `captureNow` says so.
  let holdsCapture = Mutex(false)

  init(path: String, limits: ServingLimits = ServingLimits()) throws {
    let database = try PrimaryDatabase(path: path)
    self.database = database
    tracker = database.tracker
    logWatch = database.logWatch
    pages = PageSource(path: path, map: database.map, tracker: database.tracker)
    executor = StatementExecutor(connection: database.connection, limits: limits)
    try database.captureAll()
    database.connection.policy = .client
  }

  func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void
  ) {
    log.withLock { $0.append(request) }
    thread.submit { [self] in
      var response = answer(request)
      if !holdsCapture.withLock({ $0 }) { _ = try? database.captureAll() }
      response.position = tracker.position
      let answer = response
      loop.execute { completion(answer) }
    }
  }

  func captureNow() throws {
    try thread.sync { [self] in _ = try database.captureAll() }
  }

  /// Commits behind the back of the engine, as another process would.
  func commitForeign(_ sql: String) throws {
    try thread.sync { [self] in
      database.connection.policy = .engine
      defer { database.connection.policy = .client }
      try database.connection.execute(sql)
    }
  }

  func stop() {
    pages.stop()
    thread.stop()
  }

  private func answer(_ request: EngineRequest) -> EngineResponse {
    do {
      switch request.work {
      case .position: return EngineResponse()
      case .read(let statements): return run(statements)
      case .write(let statements):
        try database.connection.execute(
          "PRAGMA foreign_keys=\(request.enforcesForeignKeys ? "ON" : "OFF")")
        try database.connection.execute("BEGIN IMMEDIATE")
        let response = run(statements)
        let isDone = response.failure == nil
        if !database.connection.isAutocommit {
          try database.connection.execute(isDone ? "COMMIT" : "ROLLBACK")
        }
        return response
      case .begin(let basis, let statements):
        try database.connection.execute("BEGIN IMMEDIATE")
        if let failure = check(basis) {
          try database.connection.execute("ROLLBACK")
          return .failed(failure)
        }
        nextTransaction += 1
        open = nextTransaction
        return proceed(statements)
      case .proceed(let id, let statements):
        guard open == id else { return .failed(RequestError(.transactionTimeout, "it is over")) }
        return proceed(statements)
      case .abandon(let id):
        if open == id { expire() }
        return EngineResponse()
      case .program(let program): return try run(program)
      case .leave: return EngineResponse()
      case .push(let push):
        do { try database.commit(push) } catch {
          return .failed(RequestError(code: "SQLITE_ERROR", message: "\(error)"))
        }
        return EngineResponse()
      }
    } catch {
      if !database.connection.isAutocommit { try? database.connection.execute("ROLLBACK") }
      return .failed(RequestError(error))
    }
  }

  /// Rolls the open transaction back, as a time limit would.
  func expireNow() throws { try thread.sync { [self] in expire() } }

  var hasOpenTransaction: Bool { get throws { try thread.sync { [self] in open != nil } } }

  private func expire() {
    open = nil
    try? database.connection.execute("ROLLBACK")
  }

  private func proceed(_ statements: [StatementRequest]) -> EngineResponse {
    var response = run(statements)
    if database.connection.isAutocommit { open = nil }
    response.transaction = open
    return response
  }

  /// Steps as SQLite itself runs them; TEMP objects are for the real writer.
  private func run(_ program: StreamProgram) throws(SQLiteError) -> EngineResponse {
    if let id = program.transaction, id != open {
      return .failed(RequestError(.transactionTimeout, "it is over"))
    }
    if program.begins {
      try database.connection.execute("BEGIN IMMEDIATE")
      if let failure = check(program.basis) {
        try database.connection.execute("ROLLBACK")
        return .failed(failure)
      }
    }
    var response = EngineResponse()
    response.steps = program.run(
      isAutocommit: { database.connection.isAutocommit },
      describe: { executor.outcome(describing: $0) }
    ) { statement, wantsRows in
      var bytes = 10 << 20
      executor.beginBudget(milliseconds: nil)
      defer { executor.endBudget() }
      do throws(RequestError) {
        return .result(
          try executor.run(
            try executor.prepare(statement.sql), statement.arguments, bytesMax: &bytes,
            wantsRows: wantsRows, isDetailed: true))
      } catch { return .failed(error) }
    }
    response.isAutocommit = database.connection.isAutocommit
    if response.isAutocommit {
      open = nil
    } else if open == nil {
      nextTransaction += 1
      open = nextTransaction
    }
    response.transaction = open
    return response
  }

  private func check(_ basis: TransactionBasis?) -> RequestError? {
    guard let basis else { return nil }
    for read in basis.reads {
      var hash = ResultHasher()
      hash.add(rows: run([read.statement]).results.first?.rows ?? [])
      guard hash.value == read.resultHash else {
        return RequestError(code: "SQLITE_BUSY_SNAPSHOT", message: "changed", retry: true)
      }
    }
    return nil
  }

  private func run(_ statements: [StatementRequest]) -> EngineResponse {
    var response = EngineResponse()
    var bytes = 10 << 20
    executor.beginBudget(milliseconds: nil)
    defer { executor.endBudget() }
    for (index, request) in statements.enumerated() {
      do throws(RequestError) {
        let statement = try executor.prepare(request.sql)
        response.results.append(
          try executor.run(statement, request.arguments, bytesMax: &bytes))
      } catch {
        response.failure = .init(error, statement: index)
        return response
      }
    }
    return response
  }
}
