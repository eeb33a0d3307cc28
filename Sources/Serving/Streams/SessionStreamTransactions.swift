// The transactions of a stream while they only read: BEGIN alone does nothing, the first read takes
// a snapshot of this node, and the first write takes the transaction to the primary.

import NIOCore
import Store
import WALShip

extension SessionStream {
  /// Runs a statement that is about the stream and not about rows, and needs no primary so far.
  func control(_ kind: StatementKind, _ run: StreamRunState) {
    switch kind {
    case .foreignKeys: run.end(.result(.foreignKeys(enforcesForeignKeys)))
    case .setForeignKeys(let enforces):
      // As in SQLite, without effect inside of a transaction.
      if isAutocommit { enforcesForeignKeys = enforces }
      run.end(.result(StatementResult()))
    case .begin(let isImmediate):
      if !isAutocommit { return run.end(.failed(.nested)) }
      if isImmediate || writesLater(run) { return write(run) }
      transaction = .begun
      run.end(.result(StatementResult()))
    case .savepoint: write(run)
    case .commit, .rollback:
      if isAutocommit { return run.end(.failed(.noTransaction(kind))) }
      endTransaction()
      run.end(.result(StatementResult()))
    case .release(let name), .rollbackTo(let name): run.end(.failed(.noSavepoint(name)))
    case .read, .write: preconditionFailure("not about the stream")
    }
  }

  /// So many statements are compiled to learn whether one of them writes.
  private static let compiledMax = 64

  /// Whether the transaction that the present step begins writes within this run.
  private func writesLater(_ run: StreamRunState) -> Bool {
    guard access >= .write else { return false }
    for (number, step) in run.ahead.dropFirst().enumerated() {
      guard case .execute(let statement, _) = step.action else { continue }
      var found: StatementKind?
      if number < Self.compiledMax {
        found = try? kind(of: statement.sql, run).get()
      } else {
        found = StatementKind.byFirstWord(statement.sql) ?? .write
      }
      switch found {
      case .write, .savepoint, .begin(isImmediate: true): return true
      case .commit, .rollback: return false
      case .read, .begin, .release, .rollbackTo, .setForeignKeys, .foreignKeys, nil: continue
      }
    }
    return false
  }

  /// A statement after the transaction was ended by its time limit.
  func executeFailed(
    _ statement: StatementRequest, _ error: RequestError, _ run: StreamRunState
  ) {
    switch try? kind(of: statement.sql, run).get() {
    case .rollback:
      transaction = .none
      run.end(.result(StatementResult()))
    case .commit:
      transaction = .none
      run.end(.failed(error))
    case .begin: transaction = .none  // and the step is started again
    case .read, .write, .savepoint, .release, .rollbackTo, .setForeignKeys, .foreignKeys, nil:
      run.end(.failed(error))
    }
  }

  // MARK: The snapshot

  /// A snapshot pins the WAL, so it may not be kept for ever.
  func watch(_ local: LocalTransaction) {
    let bound = NIOLoopBound((self, local), eventLoop: loop)
    local.alarm = loop.scheduleTask(
      in: .milliseconds(Int64(node.limits.readTransactionMilliseconds))
    ) {
      let (stream, local) = bound.value
      local.isExpired = true
      if let feed = stream.feed {
        feed.expire()
      } else if stream.isBusy {
        local.reader.interrupt()
      } else {
        stream.expire(local)
      }
    }
  }

  func expire(_ local: LocalTransaction) {
    guard case .reading(let present) = transaction, present === local, local.isExpired else {
      return
    }
    endTransaction()
    transaction = .failed(.expired(milliseconds: node.limits.readTransactionMilliseconds))
  }

  /// Ends what is open.
  func endTransaction() {
    switch transaction {
    case .none, .begun, .failed: break
    case .reading(let local): local.close(pool: node.readers.pool, on: loop)
    case .writing(let id): submit(EngineRequest(.abandon(transaction: id))) { _ in }
    }
    transaction = .none
  }
}

extension StatementResult {
  package static func foreignKeys(_ enforces: Bool) -> StatementResult {
    StatementResult(columns: ["foreign_keys"], rows: [[.integer(enforces ? 1 : 0)]])
  }
}

extension RequestError {
  /// What SQLite says of BEGIN, COMMIT and their like in the wrong place.
  package static let nested = wrong("cannot start a transaction within a transaction")

  package static func noTransaction(_ kind: StatementKind) -> RequestError {
    wrong("cannot \(kind == .commit ? "commit" : "rollback") - no transaction is active")
  }

  package static func noSavepoint(_ name: String) -> RequestError {
    wrong("no such savepoint: \(name)")
  }

  private static func wrong(_ message: String) -> RequestError {
    RequestError(code: "SQLITE_ERROR", message: message)
  }

  package static func expired(milliseconds: Int) -> RequestError {
    RequestError(
      .transactionTimeout,
      "the transaction was open longer than \(milliseconds) ms and has been rolled back; "
        + "send ROLLBACK and begin again")
  }
}

extension LocalTransaction {
  /// A transaction sees its snapshot, and cannot go where else a request may want to read.
  func refusal(of token: Token?, _ gate: TokenGate) -> RequestError? {
    guard let token else { return nil }
    if case .failed(let error) = gate.admit([token]) { return error }
    guard (token.epoch, token.txid) > (position.epoch, position.txid) else { return nil }
    return RequestError(
      .tokenTimeout, "the snapshot of the transaction is older than the token")
  }
}
