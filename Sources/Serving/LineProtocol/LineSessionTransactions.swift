// Interactive transactions: BEGIN takes a snapshot here; the first write takes the transaction to
// the primary, which checks that what was read so far is still so. From then on every statement
// goes there.

import NIOCore
import Store
import WALShip

extension LineSession {
  /// Runs a statement that is about the session and not about rows.
  func control(
    _ kind: StatementKind, _ statement: StatementRequest, _ head: AnswerHead,
    _ options: RequestOptions
  ) {
    switch kind {
    case .foreignKeys: return answerForeignKeys(head)
    case .setForeignKeys(let enforces):
      // As in SQLite, without effect inside of a transaction.
      if case .none = transaction { enforcesForeignKeys = enforces }
      return answerOK(head)
    default: break
    }
    switch transaction {
    case .none: controlOutside(kind, statement, head, options)
    case .reading(let local): control(kind, statement, head, options, in: local)
    case .writing(let open): control(kind, statement, head, options, in: open)
    case .failed(let error): controlFailed(kind, head, error)
    }
  }

  private func controlOutside(
    _ kind: StatementKind, _ statement: StatementRequest, _ head: AnswerHead,
    _ options: RequestOptions
  ) {
    switch kind {
    case .begin(isImmediate: false): beginReading(head, options)
    case .begin: beginWriting(head, options, basis: nil, [], kind: nil)
    case .savepoint: beginWriting(head, options, basis: nil, [statement], kind: kind)
    case .commit: answer(head, error: .noTransaction(.commit))
    case .rollback: answer(head, error: .noTransaction(.rollback))
    case .release(let name), .rollbackTo(let name):
      answer(head, error: .noSavepoint(name))
    case .read, .write, .foreignKeys, .setForeignKeys:
      preconditionFailure("not about transactions")
    }
  }

  private func control(
    _ kind: StatementKind, _ statement: StatementRequest, _ head: AnswerHead,
    _ options: RequestOptions, in local: LocalTransaction
  ) {
    switch kind {
    case .begin: answer(head, error: .nested)
    case .savepoint: upgrade(local, [statement], head, options, isBatch: false, kind: kind)
    case .commit, .rollback:
      endReading(local)
      answerOK(head, token: local.position.token)
    case .release(let name), .rollbackTo(let name):
      answer(head, error: .noSavepoint(name))
    case .read, .write, .foreignKeys, .setForeignKeys:
      preconditionFailure("not about transactions")
    }
  }

  private func control(
    _ kind: StatementKind, _ statement: StatementRequest, _ head: AnswerHead,
    _ options: RequestOptions, in open: WriteTransaction
  ) {
    if case .begin = kind { return answer(head, error: .nested) }
    var statement = statement
    var kind = kind
    if case .release(let name) = kind, open.endsWithSavepoint, open.savepoints.isOutermost(name) {
      statement = StatementRequest(sql: SQLText("COMMIT"))
      kind = .commit
    }
    proceed(open, [statement], head, options, isBatch: false, kind: kind)
  }

  private func controlFailed(_ kind: StatementKind, _ head: AnswerHead, _ error: RequestError) {
    switch kind {
    case .rollback:
      transaction = .none
      answerOK(head)
    case .commit:
      transaction = .none
      answer(head, error: error)
    default: answer(head, error: error)
    }
  }

  private func answerForeignKeys(_ head: AnswerHead) {
    answer(
      head, EngineResponse(results: [.foreignKeys(enforcesForeignKeys)]), isBatch: false)
  }

  // MARK: Reading

  private func beginReading(_ head: AnswerHead, _ options: RequestOptions) {
    admitted(node.gate.admit(options, session: seen), options) { admission in
      switch admission {
      case .here, .hereStale: self.openSnapshot(head, self.tokens(options))
      case .failed(let error): self.refuse(head, error)
      case .forward, .wait, .askPrimary:
        self.answer(
          head,
          error: RequestError(
            .tokenTimeout,
            "a transaction reads here, and this node is not new enough; BEGIN IMMEDIATE opens it "
              + "at the primary"))
      }
    }
  }

  /// - Parameter shown: what the client has seen.
  private func openSnapshot(_ head: AnswerHead, _ shown: [Token]) {
    suspend()
    LocalTransaction.open(on: node, loop: loop) { result in
      switch result {
      case .failure(let error): self.resume { self.answer(head, error: error) }
      case .success(let local):
        guard self.isOpen else { return local.close(pool: self.node.readers.pool, on: self.loop) }
        self.resume { self.opened(local, head, shown) }
      }
    }
  }

  private func opened(_ local: LocalTransaction, _ head: AnswerHead, _ shown: [Token]) {
    if let error = node.gate.refusal(of: shown, before: local.position.epoch) {
      local.close(pool: node.readers.pool, on: loop)
      return refuse(head, error)
    }
    transaction = .reading(local)
    watch(local)
    answerOK(head, token: local.position.token)
  }

  /// A snapshot pins the WAL, so it may not be kept for ever.
  private func watch(_ local: LocalTransaction) {
    let bound = NIOLoopBound((self, local), eventLoop: loop)
    local.alarm = loop.scheduleTask(
      in: .milliseconds(Int64(node.limits.readTransactionMilliseconds))
    ) {
      let (session, local) = bound.value
      local.isExpired = true
      if session.isBusy { local.reader.interrupt() } else { session.expire(local) }
    }
  }

  func expire(_ local: LocalTransaction) {
    guard case .reading(let present) = transaction, present === local, local.isExpired else {
      return
    }
    endReading(local)
    transaction = .failed(.expired(milliseconds: node.limits.readTransactionMilliseconds))
  }

  private func endReading(_ local: LocalTransaction) {
    transaction = .none
    local.close(pool: node.readers.pool, on: loop)
  }

  /// Reads in the snapshot of the transaction.
  func read(_ job: ReadJob, in local: LocalTransaction) {
    if let error = local.refusal(of: job.options.token, node.gate) {
      return answer(job.head, error: error)
    }
    guard mode == .json, let statement = job.statement else { return readWhole(job, in: local) }
    let stream = RowStream(
      reader: local.reader, request: statement, format: .line(writer.integers),
      milliseconds: statementMilliseconds(job.options), limits: node.limits, isHashed: true)
    local.stream = stream
    let use = StreamUse(
      release: { local.stream = nil },
      // The transaction is closed with the session, and its stream with it.
      abandon: {},
      last: { chunk, _ in
        local.record(statement, chunk.hash)
        self.writer.beginLine(id: job.head.id)
        self.writer.columns(encoded: chunk.members)
        self.endLine(job.head, token: local.position.token)
        self.expire(local)
      },
      failed: { error in
        self.answer(job.head, error: error)
        self.expire(local)
      })
    pump(job.head, stream, use)
  }

  private func readWhole(_ job: ReadJob, in local: LocalTransaction) {
    let statements = job.statements
    suspend(onGone: { local.reader.interrupt() })
    let bound = NIOLoopBound((self, local, job), eventLoop: loop)
    local.reader.read(
      statements, hasTransaction: true,
      rowsMax: mode == .json ? .max : node.limits.tableRowsMax, limits: node.limits,
      milliseconds: statementMilliseconds(job.options), on: loop
    ) { result in
      let (session, local, job) = bound.value
      session.resume {
        switch result {
        case .failure(let error): session.answer(job.head, error: error)
        case .success(let found):
          for (statement, result) in zip(statements, found.results) {
            var hash = ResultHasher()
            hash.add(rows: result.rows)
            local.record(statement, hash)
          }
          let response = EngineResponse(
            results: found.results, failure: found.failure, position: local.position)
          session.answer(job.head, response, isBatch: job.isBatch)
        }
        session.expire(local)
      }
    }
  }

  // MARK: The end of the session

  /// Ends what is open when the client is gone.
  func abandonTransaction() {
    switch transaction {
    case .none, .failed: break
    case .reading(let local): endReading(local)
    case .writing(let open): ask(.abandon(transaction: open.id)) { _ in }
    }
    transaction = .none
  }
}
