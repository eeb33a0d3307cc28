// Interactive transactions, which have the writer to themselves, and the programs of streams, which
// may open and end such ones.

import NIOCore
import Serving
import Store
import WALShip

extension Writer {
  // MARK: Of line sessions

  func begin(
    _ basis: TransactionBasis?, _ statements: [StatementRequest], _ request: EngineRequest
  ) -> EngineResponse {
    do throws(RequestError) {
      try shared.setForeignKeys(request.enforcesForeignKeys)
      try shared.begin()
    } catch { return .failed(error) }
    let limit = UInt64(limits.transactionMilliseconds) * 1_000_000
    watch(
      OpenTransaction(
        id: newTransaction(), deadlineNanoseconds: monotonicNanoseconds() + limit,
        connection: shared))
    if let basis {
      do throws(RequestError) {
        try verify(basis, on: shared, request)
      } catch {
        rollback()
        return .failed(error)
      }
    }
    return run(statements, on: shared, request)
  }

  func proceed(
    _ id: UInt64, _ statements: [StatementRequest], _ request: EngineRequest
  ) -> EngineResponse {
    guard let open, open.id == id else { return .failed(isOver) }
    return run(statements, on: open.connection, request)
  }

  private func run(
    _ statements: [StatementRequest], on connection: WritingConnection, _ request: EngineRequest
  ) -> EngineResponse {
    var response = groups.runInTransaction(
      statements, on: connection, timeoutMilliseconds: request.timeoutMilliseconds)
    if connection.isAutocommit {
      end()
    } else {
      response.transaction = open?.id
    }
    return response
  }

  // MARK: Of streams

  func run(_ program: StreamProgram, _ request: EngineRequest) -> EngineResponse {
    if let id = program.transaction, open?.id != id { return .failed(isOver) }
    let before = open
    let run = ProgramRun(
      program, request, open: open, shared: shared, connections: connections, limits: limits,
      newTransaction: newTransaction)
    let response = run.run { basis, connection throws(RequestError) in
      try verify(basis, on: connection, request)
    }
    if let opened = run.open {
      if opened.id == before?.id { open = opened } else { watch(opened) }
    } else if before != nil {
      end()
    }
    if run.session != nil { sweepLater() }
    return response
  }

  /// The stream is gone.
  func leave(_ session: UInt64) {
    guard let connection = connections.close(session) else { return }
    if open?.connection === connection { rollback() }
  }

  private func sweepLater() {
    guard !hasSweep else { return }
    hasSweep = true
    let pause = Int64(limits.streamConnectionIdleMilliseconds / 4 + 1)
    timers.scheduleTask(in: .milliseconds(pause)) { [self] in
      thread.submit { [self] in
        hasSweep = false
        connections.closeIdle(butNot: open?.connection)
        if connections.sessionCount > 0 { sweepLater() }
      }
    }
  }

  // MARK: Their limits

  func newTransaction() -> UInt64 {
    nextTransaction += 1
    return nextTransaction
  }

  private var isOver: RequestError {
    RequestError(
      .transactionTimeout,
      "the transaction is over: it took longer than \(limits.transactionMilliseconds) ms and was "
        + "rolled back")
  }

  private func watch(_ opened: OpenTransaction) {
    open = opened
    let now = monotonicNanoseconds()
    let left = opened.deadlineNanoseconds - min(now, opened.deadlineNanoseconds)
    let id = opened.id
    timers.scheduleTask(in: .nanoseconds(Int64(left))) { [self] in
      thread.submit { [self] in expire(id) }
    }
  }

  private func expire(_ id: UInt64) {
    guard open?.id == id else { return }
    rollback()
    drain()
  }

  func rollback() {
    open?.connection.rollback()
    end()
  }

  private func end() {
    open = nil
    try? shared.setForeignKeys(true)
  }

  private func verify(
    _ basis: TransactionBasis, on connection: WritingConnection, _ request: EngineRequest
  ) throws(RequestError) {
    if isCurrent(basis) { return }
    try groups.verify(
      basis, on: connection, timeoutMilliseconds: request.timeoutMilliseconds)
  }

  /// Nothing was committed since the transaction looked: its reads need no second look.
  private func isCurrent(_ basis: TransactionBasis) -> Bool {
    guard (try? database.captureAll()) != nil else { return false }
    let position = database.tracker.position
    return basis.epoch == position.epoch && basis.txid == position.txid
  }
}
