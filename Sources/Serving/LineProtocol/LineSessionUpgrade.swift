// The writing half of interactive transactions: opened at the primary, continued there, ended
// there.

import NIOCore
import Store
import WALShip

extension LineSession {
  /// Runs statements in the open transaction; the first write of one that only read takes it to the
  /// primary.
  func writeInTransaction(
    _ head: AnswerHead, _ options: RequestOptions, _ statements: [StatementRequest], isBatch: Bool
  ) {
    switch transaction {
    case .none: preconditionFailure("there is no transaction")
    case .failed(let error): answer(head, error: error)
    case .reading(let local):
      upgrade(local, statements, head, options, isBatch: isBatch, kind: nil)
    case .writing(let open):
      proceed(open, statements, head, options, isBatch: isBatch, kind: nil)
    }
  }

  /// Takes a transaction that has only read to the primary.
  func upgrade(
    _ local: LocalTransaction, _ statements: [StatementRequest], _ head: AnswerHead,
    _ options: RequestOptions, isBatch: Bool, kind: StatementKind?
  ) {
    guard local.canWrite else {
      return answer(head, error: LocalTransaction.readTooMuch)
    }
    beginWriting(
      head, options, basis: local.basis, statements, kind: kind, isBatch: isBatch, from: local)
  }

  /// Opens a transaction at the primary, and runs its first statements.
  func beginWriting(
    _ head: AnswerHead, _ options: RequestOptions, basis: TransactionBasis?,
    _ statements: [StatementRequest], kind: StatementKind?, isBatch: Bool = false,
    from local: LocalTransaction? = nil
  ) {
    var request = EngineRequest(.begin(basis: basis, Self.guarded(statements, isBatch)))
    request.tokens = tokens(options)
    request.timeoutMilliseconds = engineMilliseconds(options)
    request.enforcesForeignKeys = enforcesForeignKeys
    suspend()
    ask(request) { response in
      guard self.isOpen else { return self.abandon(response) }
      self.resume {
        guard let id = response.transaction else {
          self.answer(head, Self.unguarded(response, isBatch), isBatch: isBatch)
          if let local { self.expire(local) }
          return
        }
        if let local { local.close(pool: self.node.readers.pool, on: self.loop) }
        var open = WriteTransaction(id: id)
        if response.failure == nil {
          open.savepoints.note(kind)
          if case .savepoint? = kind, local == nil { open.endsWithSavepoint = true }
        }
        self.transaction = .writing(open)
        self.finish(open, response, head, isBatch: isBatch)
      }
    }
  }

  /// Runs statements in the transaction at the primary.
  func proceed(
    _ open: WriteTransaction, _ statements: [StatementRequest], _ head: AnswerHead,
    _ options: RequestOptions, isBatch: Bool, kind: StatementKind?
  ) {
    var request = EngineRequest(
      .proceed(transaction: open.id, Self.guarded(statements, isBatch)))
    request.timeoutMilliseconds = engineMilliseconds(options)
    request.enforcesForeignKeys = enforcesForeignKeys
    suspend()
    ask(request) { response in
      guard self.isOpen else { return self.abandon(response) }
      self.resume {
        guard response.transaction != nil else {
          return self.ended(response, head, isBatch: isBatch, kind: kind)
        }
        if response.failure == nil, case .writing(var open) = self.transaction {
          open.savepoints.note(kind)
          self.transaction = .writing(open)
        }
        self.finish(open, response, head, isBatch: isBatch)
      }
    }
  }

  /// The transaction is open no more.
  private func ended(
    _ response: EngineResponse, _ head: AnswerHead, isBatch: Bool, kind: StatementKind?
  ) {
    transaction = .none
    if let error = response.failure?.error, kind != .commit, kind != .rollback {
      transaction = .failed(
        RequestError(
          code: error.code == ErrorCode.transactionTimeout.rawValue
            ? error.code : "SQLITE_ABORT_ROLLBACK",
          message: "the transaction was rolled back (\(error.message)); send ROLLBACK to go on",
          retry: false))
    }
    answer(head, Self.unguarded(response, isBatch), isBatch: isBatch)
  }

  /// Answers inside of the open transaction. A batch that failed is undone as a whole first.
  private func finish(
    _ open: WriteTransaction, _ response: EngineResponse, _ head: AnswerHead, isBatch: Bool
  ) {
    guard isBatch, response.failure != nil else {
      return answer(head, Self.unguarded(response, isBatch), isBatch: isBatch)
    }
    suspend()
    ask(.proceed(transaction: open.id, Self.undoing)) { undone in
      guard self.isOpen else { return self.abandon(undone) }
      self.resume {
        guard undone.transaction != nil else {
          return self.ended(response, head, isBatch: true, kind: nil)
        }
        self.answer(head, Self.unguarded(response, true), isBatch: true)
      }
    }
  }

  private func abandon(_ response: EngineResponse) {
    guard let id = response.transaction else { return }
    ask(.abandon(transaction: id)) { _ in }
  }

  // MARK: Batches are all or nothing, inside of a transaction too

  private static let savepoint = "edge_sql_batch"
  private static let undoing = [
    StatementRequest(sql: SQLText("ROLLBACK TO \(savepoint)")),
    StatementRequest(sql: SQLText("RELEASE \(savepoint)")),
  ]

  /// Puts a savepoint around the statements of a batch.
  private static func guarded(
    _ statements: [StatementRequest], _ isBatch: Bool
  ) -> [StatementRequest] {
    guard isBatch else { return statements }
    return [StatementRequest(sql: SQLText("SAVEPOINT \(savepoint)"))] + statements
      + [StatementRequest(sql: SQLText("RELEASE \(savepoint)"))]
  }

  /// Takes what the savepoint gave out of a response.
  private static func unguarded(_ response: EngineResponse, _ isBatch: Bool) -> EngineResponse {
    guard isBatch else { return response }
    var response = response
    if response.failure == nil {
      response.results = Array(response.results.dropFirst().dropLast())
    } else if let statement = response.failure?.statement {
      response.failure?.statement = max(0, statement - 1)
    }
    return response
  }
}
