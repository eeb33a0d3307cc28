// What a stream has done at the primary, and what it learns from the answers.

import NIOCore
import Store
import WALShip

extension SessionStream {
  /// The present step may write: it and all that follow go to the primary.
  func write(_ run: StreamRunState) {
    guard access >= .write else { return run.end(.failed(.writeDenied)) }
    switch transaction {
    case .none, .writing, .failed: sendRest(run)
    case .begun: sendRest(run, begins: true)
    case .reading(let local):
      if let refusal = local.writeRefusal { return run.end(.failed(refusal)) }
      sendRest(run, begins: true, basis: local.basis)
    }
  }

  /// - Parameter begins: the stream's transaction has only read so far.
  func sendRest(_ run: StreamRunState, begins: Bool = false, basis: TransactionBasis? = nil) {
    guard access >= .write else { return run.fail(.writeDenied) }
    if case .failed(let error) = node.gate.admit(tokens(run.options)) {
      forget(ifLost: error)
      return run.fail(error)
    }
    var program = StreamProgram(steps: run.rest, session: session)
    if case .writing(let id) = transaction { program.transaction = id }
    program.begins = begins
    program.basis = basis
    program.lastInsertRowid = lastInsertRowid
    send(program, run) { self.took($0, begins: begins, run) }
  }

  /// This node is not new enough: the reads that come next run at the primary, up to the first step
  /// that is none.
  func forwardReads(_ run: StreamRunState) {
    if case .begun = transaction { return beginElsewhere(run) }
    let ahead = run.ahead.prefix { reads($0, run) }
    guard !ahead.isEmpty else {
      return run.fail(RequestError(.tokenTimeout, "this node is not new enough"))
    }
    let before = run.outcomes.count
    var program = StreamProgram(steps: Array(run.rest.prefix(before + ahead.count)))
    program.isReading = true
    program.lastInsertRowid = lastInsertRowid
    send(program, run) { response in
      if let failure = response.failure {
        self.forget(ifLost: failure.error)
        return run.fail(failure.error)
      }
      run.end(response.steps.dropFirst(before))
    }
  }

  /// The reads of a transaction need a snapshot, which only the primary has.
  private func beginElsewhere(_ run: StreamRunState) {
    guard access >= .write else {
      return run.fail(
        RequestError(
          .tokenTimeout, "a transaction reads here, and this node is not new enough"))
    }
    sendRest(run, begins: true)
  }

  private func reads(_ step: ProgramStep, _ run: StreamRunState) -> Bool {
    switch step.action {
    case .autocommit, .describe, .done: return true
    case .execute(let statement, _):
      guard let kind = try? kind(of: statement.sql, run).get() else {
        return StatementKind.byFirstWord(statement.sql) != .commit
      }
      return kind == .read
    }
  }

  private func send(
    _ program: StreamProgram, _ run: StreamRunState,
    then: @escaping (EngineResponse) -> Void
  ) {
    var request = EngineRequest(.program(program))
    request.access = access
    request.timeoutMilliseconds = run.options.timeoutMilliseconds
    request.enforcesForeignKeys = enforcesForeignKeys
    request.tokens = tokens(run.options)
    let count = program.steps.count
    suspend()
    submit(request) { response in
      guard !self.isClosed else { return self.abandon(response) }
      var response = response
      if response.failure == nil, response.steps.count != count {
        response = .failed(RequestError(.primaryUnavailable, "the primary's answer is not whole"))
      }
      if let token = response.position?.token { self.raise(token) }
      self.resume { then(response) }
    }
  }

  /// Hands a request to the primary; `then` is called on the loop.
  func submit(_ request: EngineRequest, then: @escaping (EngineResponse) -> Void) {
    let bound = NIOLoopBound(then, eventLoop: loop)
    node.primary.submit(request, on: loop) { bound.value($0) }
  }

  /// The stream was closed while the primary worked for it.
  private func abandon(_ response: EngineResponse) {
    if let id = response.transaction {
      submit(EngineRequest(.abandon(transaction: id))) { _ in }
    }
    if let id = response.session { submit(EngineRequest(.leave(session: id))) { _ in } }
  }

  // MARK: Answers

  private func took(_ response: EngineResponse, begins: Bool, _ run: StreamRunState) {
    if let failure = response.failure, response.steps.isEmpty {
      return failed(failure.error, begins: begins, run)
    }
    let ends = response.steps.dropFirst(run.outcomes.count)
    for case .result(let result) in ends {
      if let rowid = result.lastInsertRowid { lastInsertRowid = rowid }
    }
    if case .reading(let local) = transaction { local.close(pool: node.readers.pool, on: loop) }
    enforcesForeignKeys = response.enforcesForeignKeys
    session = response.session
    transaction =
      if let id = response.transaction { .writing(id) } else if let failure = response.failure {
        .failed(failure.error)
      } else { .none }
    run.end(ends)
  }

  /// Nothing of the program was done, or nobody knows.
  private func failed(_ error: RequestError, begins: Bool, _ run: StreamRunState) {
    forget(ifLost: error)
    switch ErrorCode(rawValue: error.code) {
    case .transactionTimeout:
      // The steps go on as those of a transaction that has failed.
      transaction = .failed(error)
    case .streamExpired:
      session = nil
      transaction = .none
      run.fail(error)
    case .outcomeUnknown, .primaryUnavailable:
      if !begins || error.code == ErrorCode.outcomeUnknown.rawValue { lose(run, error) }
      run.fail(error)
    case nil where begins:
      // As in SQLite, the statement fails, and the transaction stays as it was.
      if case .reading(let local) = transaction, error.code == "SQLITE_BUSY_SNAPSHOT" {
        local.hasChanged = error
      }
      run.end(.failed(error))
    default: run.fail(error)
    }
  }

  /// The link is gone, and the transaction at the primary with it, whatever became of the steps.
  private func lose(_ run: StreamRunState, _ error: RequestError) {
    var isOpen = !isAutocommit
    for step in run.ahead {
      guard case .execute(let statement, _) = step.action else { continue }
      switch StatementScanner.firstWords(of: statement.sql).first {
      case "begin", "savepoint": isOpen = true
      case "commit", "end", "rollback": isOpen = false
      default: break
      }
    }
    if case .reading(let local) = transaction { local.close(pool: node.readers.pool, on: loop) }
    session = nil
    transaction = isOpen ? .failed(error) : .none
  }
}

extension LocalTransaction {
  /// Why the transaction can no longer write.
  var writeRefusal: RequestError? { hasChanged ?? (canWrite ? nil : Self.readTooMuch) }
}
