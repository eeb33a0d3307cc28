// Reads: admitted by their tokens, run in place if they are cheap, else on the pool, or sent to the
// primary.

import NIOCore
import Store
import WALShip

/// One read request, or a batch that only reads.
struct ReadJob {
  var head: AnswerHead
  var options: RequestOptions
  /// The statement, when it is not a batch.
  var statement: StatementRequest?
  /// The statement as the loop's reader has it; nil when it could not be compiled yet.
  var cached: CachedStatement?
  var batch: [StatementRequest] = []
  /// The node has not reached the token, and the client accepts that.
  var isStale = false

  init(
    head: AnswerHead, options: RequestOptions, statement: StatementRequest,
    cached: CachedStatement?
  ) {
    self.head = head
    self.options = options
    self.statement = statement
    self.cached = cached
  }

  init(head: AnswerHead, options: RequestOptions, batch: [StatementRequest]) {
    self.head = head
    self.options = options
    self.batch = batch
  }

  var isBatch: Bool { statement == nil }
  var statements: [StatementRequest] { statement.map { [$0] } ?? batch }
}

extension LineSession {
  func startRead(_ job: ReadJob) {
    switch transaction {
    case .none: break
    case .reading(let local): return read(job, in: local)
    case .writing, .failed:
      return writeInTransaction(job.head, job.options, job.statements, isBatch: job.isBatch)
    }
    if continuesBatch(job.options) { return readHere(job) }
    endBatch()
    switch node.gate.admit(job.options, session: seen) {
    case .here: readHere(job)
    case let admission: admitted(admission, job.options) { self.read(job, $0) }
    }
  }

  /// Whether a read can be answered from the snapshot of the open batch. What the batch itself has
  /// seen needs no check.
  private func continuesBatch(_ options: RequestOptions) -> Bool {
    guard let floor = reader?.batchFloor else { return false }
    guard options.read == .local else { return false }
    guard let token = options.token else { return true }
    return token.database == floor.database.short && token.epoch == floor.epoch
      && token.txid <= floor.txid
  }

  /// Waits until a decision can be made; calls `then` with one that is neither to wait nor to ask.
  func admitted(
    _ admission: Admission, _ options: RequestOptions, then: @escaping (Admission) -> Void
  ) {
    switch admission {
    case .here, .hereStale, .forward, .failed: then(admission)
    case .wait, .askPrimary:
      let wait = AdmissionWait(node: node, options: options, seen: seen, loop: loop) { admission in
        self.resume { then(admission) }
      }
      suspend(onGone: wait.cancel)
      wait.start(admission)
    }
  }

  private func read(_ job: ReadJob, _ admission: Admission) {
    switch admission {
    case .here: readHere(job)
    case .hereStale:
      var job = job
      job.isStale = true
      readHere(job)
    case .forward: readAtPrimary(job)
    case .failed(let error): refuse(job.head, error)
    case .wait, .askPrimary: preconditionFailure("the admission was not final")
    }
  }

  /// Answers what was not admitted.
  func refuse(_ head: AnswerHead, _ error: RequestError) {
    forget(ifLost: error)
    answer(head, error: error)
  }

  private func readAtPrimary(_ job: ReadJob) {
    var request = EngineRequest(.read(job.statements))
    request.timeoutMilliseconds = statementMilliseconds(job.options)
    request.tokens = tokens(job.options)
    suspend()
    ask(request) { response in
      self.resume { self.answer(job.head, response, isBatch: job.isBatch) }
    }
  }

  // MARK: In place

  private func readHere(_ job: ReadJob) {
    guard mode == .json else { return readWhole(job) }
    do throws(RequestError) {
      let reader = try loopReader()
      guard let statement = job.statement else { return try readBatchHere(job, reader) }
      var cached = job.cached
      if cached == nil { cached = try reader.statement(statement.sql) }
      guard let cached, cached.kind == .read else { return startLateWrite(job, statement) }
      if input.hasMore, !cached.isSlow { try reader.beginBatch() }
      try readHere(job, statement, cached, reader)
    } catch {
      answer(job.head, error: error)
    }
  }

  private func readHere(
    _ job: ReadJob, _ statement: StatementRequest, _ cached: CachedStatement, _ reader: LoopReader
  ) throws(RequestError) {
    writer.beginLine(id: job.head.id)
    do throws(RequestError) {
      switch try reader.read(cached, statement.arguments, into: &writer) {
      case .finished(let mark): finishRead(job, mark, cached)
      case .handOver:
        writer.discardLine()
        reader.endBatch()
        streamFromPool(job, statement, cached)
      }
    } catch {
      writer.discardLine()
      throw error
    }
  }

  /// It could be compiled only now that the node has reached the token, and turns out to be no
  /// read.
  private func startLateWrite(_ job: ReadJob, _ statement: StatementRequest) {
    endBatch()
    _ = startWrite(job.head, job.options, [statement], isBatch: false)
  }

  private func readBatchHere(_ job: ReadJob, _ reader: LoopReader) throws(RequestError) {
    try reader.beginBatch()
    var mark = try reader.mark()
    writer.beginLine(id: job.head.id)
    writer.beginResults()
    for (index, statement) in job.batch.enumerated() {
      do throws(RequestError) {
        writer.beginResult()
        let cached = try reader.statement(statement.sql)
        guard case .finished(let now) = try reader.read(cached, statement.arguments, into: &writer)
        else {
          writer.discardLine()
          reader.endBatch()
          return readWhole(job)
        }
        mark = now
        writer.endResult()
      } catch {
        writer.discardLine()
        return answer(job.head, error: error, statement: index)
      }
    }
    writer.endResults()
    finishRead(job, mark, nil)
  }

  /// Ends the line in `writer` with the token of what was seen.
  private func finishRead(_ job: ReadJob, _ mark: SnapshotMark, _ cached: CachedStatement?) {
    guard case .token(let token) = mark else { return hold(job, mark) }
    guard let microseconds = endRead(job, token) else { return }
    if microseconds > node.limits.loopMicrosecondsMax { cached?.isSlow = true }
  }

  /// Ends the line in `writer`, unless what the client has seen was lost since the read was admitted.
  ///
  /// - Returns: how long the request took; nil when it was refused.
  @discardableResult
  func endRead(_ job: ReadJob, _ token: Token) -> UInt64? {
    if let error = loss(job, token) {
      writer.discardLine()
      endBatch()
      refuse(job.head, error)
      return nil
    }
    return endLine(job.head, token: token, isStale: job.isStale)
  }

  /// Why what was read must not be told.
  func loss(_ job: ReadJob, _ token: Token) -> RequestError? {
    let shown = job.options.token?.epoch ?? token.epoch
    guard min(shown, seen?.epoch ?? shown) < token.epoch else { return nil }
    return node.gate.refusal(of: tokens(job.options), before: token.epoch)
  }

  /// The answer is ready, but what it saw has no number yet: keeps the line open until it has.
  func hold(_ job: ReadJob, _ mark: SnapshotMark) {
    guard case .ahead(let place) = mark else { return }
    endBatch()
    isLineOpen = true
    awaitPosition(at: place) { position in
      self.isLineOpen = false
      guard let position else {
        self.writer.discardLine()
        return self.answer(job.head, error: Self.unnumbered)
      }
      self.endRead(job, position.token)
    }
  }

  static let unnumbered = PlaceWait.unnumbered

  /// Waits until the node can tell what position a place is; nil when that takes too long.
  ///
  /// - Parameter onGone: called when the client is gone before.
  func awaitPosition(
    at place: LogPlace, onGone: @escaping () -> Void = {}, then: @escaping (Position?) -> Void
  ) {
    if case .position(let position) = node.tracker.resolve(place) { return then(position) }
    let wait = PlaceWait(tracker: node.tracker, place: place, loop: loop) { position in
      self.resume { then(position) }
    }
    suspend(onGone: {
      wait.cancel()
      onGone()
    })
    wait.start(milliseconds: node.limits.statementMilliseconds)
  }
}
