// Reads that a replica forwards, because its client asked for the primary or its replica was late.
// They run beside the writer, on threads of their own.

import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// Runs forwarded reads. `submit` may be called from any thread.
final class ForwardedReads: @unchecked Sendable {  // each executor is used on its own thread alone
  private let path: String
  private let tracker: PositionTracker
  private let watch: LogWatch
  private let limits: ServingLimits
  private let threads: [DatabaseThread]
  /// Opened with the first read; most primaries never see one.
  private let executors: [Lane]
  private let turn = Atomic<Int>(0)
  private static let threadCount = 2

  /// The connection of one thread.
  private final class Lane { var executor: StatementExecutor? }

  init(
    path: String, tracker: PositionTracker, watch: LogWatch, limits: ServingLimits
  ) {
    self.path = path
    self.tracker = tracker
    self.watch = watch
    self.limits = limits
    threads = (0..<Self.threadCount).map { _ in DatabaseThread() }
    executors = (0..<Self.threadCount).map { _ in Lane() }
  }

  private func executor(of lane: Lane) throws -> StatementExecutor {
    if let executor = lane.executor { return executor }
    let connection = try Connection(path: path, mode: .readOnly)
    connection.setBusyTimeout(milliseconds: 1000)
    try connection.execute("PRAGMA query_only=ON")
    connection.policy = .client
    let executor = StatementExecutor(connection: connection, limits: limits)
    lane.executor = executor
    return executor
  }

  func stop() { for thread in threads { thread.stop() } }

  func submit(_ pending: Writer.Pending) {
    let number = turn.wrappingAdd(1, ordering: .relaxed).newValue & 0xffff
    let index = number % Self.threadCount
    let accepted = threads[index].submit { [self] in
      let (response, place) = run(pending.request, executors[index])
      finish(pending, response, place)
    }
    if !accepted {
      let stopping = EngineResponse.failed(
        RequestError(.primaryUnavailable, "this node is stopping"))
      pending.loop.execute { pending.completion(stopping) }
    }
  }

  private func run(
    _ request: EngineRequest, _ lane: Lane
  ) -> (EngineResponse, LogPlace?) {
    var response = EngineResponse()
    var place: LogPlace?
    do {
      let refusal = TokenGate.refusal(
        of: request.tokens, onPrimary: tracker, mustBeReached: true)
      if let refusal { return (.failed(refusal), nil) }
      let executor = try executor(of: lane)
      try executor.connection.execute("BEGIN")
      defer { try? executor.connection.execute("COMMIT") }
      executor.beginBudget(milliseconds: request.timeoutMilliseconds)
      defer { executor.endBudget() }
      switch request.work {
      case .read(let statements): response = run(statements, executor)
      case .program(let program): response = run(program, request, executor)
      case .write, .position, .begin, .proceed, .abandon, .leave, .push: break
      }
      // Read after the snapshot was opened: it names that snapshot, or a later one.
      place = watch.place
    } catch {
      response.failure = .init(RequestError(code: "SQLITE_ERROR", message: "\(error)", retry: true))
    }
    return (response, place)
  }

  private func run(
    _ statements: [StatementRequest], _ executor: StatementExecutor
  ) -> EngineResponse {
    var response = EngineResponse()
    var bytes = limits.responseBytesMax
    for (index, request) in statements.enumerated() {
      do throws(RequestError) {
        let statement = try compile(request.sql, executor)
        response.results.append(
          try executor.run(statement, request.arguments, bytesMax: &bytes))
      } catch {
        response.failure = .init(error, statement: statements.count > 1 ? index : nil)
        break
      }
    }
    return response
  }

  /// The reads of a stream.
  private func run(
    _ program: StreamProgram, _ request: EngineRequest, _ executor: StatementExecutor
  ) -> EngineResponse {
    var response = EngineResponse()
    var bytes = limits.responseBytesMax
    executor.connection.lastInsertRowid = program.lastInsertRowid
    response.steps = program.run(
      isAutocommit: { true }, describe: { executor.outcome(describing: $0) }
    ) { statement, wantsRows in
      do throws(RequestError) {
        let compiled = try compile(statement.sql, executor)
        return .result(
          try executor.run(
            compiled, statement.arguments, bytesMax: &bytes, wantsRows: wantsRows,
            isDetailed: true))
      } catch { return .failed(error) }
    }
    response.enforcesForeignKeys = request.enforcesForeignKeys
    return response
  }

  private func compile(
    _ sql: SQLText, _ executor: StatementExecutor
  ) throws(RequestError) -> Statement {
    let statement = try executor.prepare(sql)
    guard statement.isReadOnly, statement.facts.transaction == nil,
      statement.facts.savepoint == nil
    else { throw RequestError(.readOnly, "this request may only read") }
    return statement
  }

  /// Answers once what was seen has a number.
  private func finish(_ pending: Writer.Pending, _ response: EngineResponse, _ place: LogPlace?) {
    let tracker = tracker
    let held = HeldAnswer {
      var response = response
      if let place, tracker.isAhead(place) {
        response = .failed(RequestError(.tokenTimeout, "what was read has no position yet"))
      }
      response.position = tracker.position
      let answered = response
      pending.loop.execute { pending.completion(answered) }
    }
    guard let place else { return held.release() }
    let id = tracker.whenReached(.place(place)) { held.release() }
    held.release(
      by: pending.loop.scheduleTask(in: .seconds(5)) {
        tracker.cancel(id)
        held.release()
      })
  }
}
