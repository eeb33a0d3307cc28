// Reads that an event loop must not wait for: on a thread of the pool, streamed while the client
// takes the rows.

import NIOCore
import Store
import WALShip

/// What becomes of a stream and of its reader.
struct StreamUse {
  /// The stream has ended: gives the reader back.
  var release: () -> Void
  /// The client is gone: ends the stream, and gives the reader back.
  var abandon: () -> Void
  /// Answers with the last chunk; the flag says whether there were others.
  var last: (ResultChunk, Bool) -> Void
  var failed: (RequestError) -> Void
}

extension LineSession {
  // MARK: On the pool

  /// Takes a reader of the pool; `then` is called with it while the client is there.
  func withReader(_ head: AnswerHead, then: @escaping (PooledReader) -> Void) {
    suspend()
    let loop = loop
    let pool = node.readers.pool
    let bound = NIOLoopBound((self, then), eventLoop: loop)
    pool.checkOut(on: loop) { result in
      let (session, then) = bound.value
      switch result {
      case .success(let reader):
        guard session.isOpen else { return pool.checkIn(reader, on: loop) }
        session.resume { then(reader) }
      case .failure(let error): session.resume { session.answer(head, error: error) }
      }
    }
  }

  func streamFromPool(
    _ job: ReadJob, _ statement: StatementRequest, _ cached: CachedStatement
  ) {
    let pool = node.readers.pool
    let loop = loop
    withReader(job.head) { reader in
      let stream = RowStream(
        reader: reader, request: statement, format: .line(self.writer.integers),
        milliseconds: self.statementMilliseconds(job.options), limits: self.node.limits)
      let began = monotonicNanoseconds()
      let use = StreamUse(
        release: { pool.checkIn(reader, on: loop) },
        abandon: { stream.end(on: loop) { pool.checkIn(reader, on: loop) } },
        last: { chunk, wasLarge in
          let microseconds = (monotonicNanoseconds() - began) / 1000
          cached.noteRun(microseconds: microseconds, wasLarge: wasLarge)
          self.finish(job, chunk)
        },
        failed: { error in self.answer(job.head, error: error) })
      self.pump(job.head, stream, use)
    }
  }

  private func finish(_ job: ReadJob, _ chunk: ResultChunk) {
    writer.beginLine(id: job.head.id)
    writer.columns(encoded: chunk.members)
    if case .position(let position) = node.tracker.resolve(chunk.place) {
      endRead(job, position.token)
    } else {
      hold(job, .ahead(chunk.place))
    }
  }

  /// Sends a result chunk by chunk; the next one is made when the client has room for it.
  func pump(
    _ head: AnswerHead, _ stream: RowStream, _ use: StreamUse, isFirst: Bool = true
  ) {
    suspend(onGone: { stream.reader.interrupt() })
    let bound = NIOLoopBound((self, use), eventLoop: loop)
    stream.next(on: loop) { result in
      let (session, use) = bound.value
      session.take(result, head, stream, use, isFirst: isFirst)
    }
  }

  private func take(
    _ result: Result<ResultChunk, RequestError>, _ head: AnswerHead, _ stream: RowStream,
    _ use: StreamUse, isFirst: Bool
  ) {
    switch result {
    case .failure(let error):
      use.release()
      resume { use.failed(error) }
    case .success(let chunk) where chunk.isLast:
      use.release()
      resume { use.last(chunk, !isFirst) }
    case .success(let chunk):
      guard isOpen else { return use.abandon() }
      writer.beginLine(id: head.id)
      writer.columns(encoded: chunk.members)
      writer.more()
      writer.endLine()
      flush()
      suspend(onGone: use.abandon)
      whenRoom { self.pump(head, stream, use, isFirst: false) }
    }
  }

  /// Answers with whole results: batches that are too much for the loop, and tables.
  func readWhole(_ job: ReadJob) {
    let limits = node.limits
    let pool = node.readers.pool
    let loop = loop
    endBatch()
    withReader(job.head) { reader in
      self.suspend(onGone: { reader.interrupt() })
      let bound = NIOLoopBound((self, job), eventLoop: loop)
      reader.read(
        job.statements, hasTransaction: false,
        rowsMax: self.mode == .json ? .max : limits.tableRowsMax, limits: limits,
        milliseconds: self.statementMilliseconds(job.options), on: loop
      ) { result in
        pool.checkIn(reader, on: loop)
        let (session, job) = bound.value
        session.resume { session.answerWhole(job, result) }
      }
    }
  }

  private func answerWhole(_ job: ReadJob, _ result: Result<ReadResults, RequestError>) {
    let found: ReadResults
    do {
      found = try result.get()
    } catch {
      return answer(job.head, error: error)
    }
    if let failure = found.failure {
      return answer(
        job.head, error: failure.error, statement: job.isBatch ? failure.statement : nil)
    }
    guard let place = found.place else { return answer(job.head, error: Self.unnumbered) }
    awaitPosition(at: place) { position in
      guard let position else { return self.answer(job.head, error: Self.unnumbered) }
      if let error = self.loss(job, position.token) { return self.refuse(job.head, error) }
      var response = EngineResponse(results: found.results)
      response.position = position
      self.answer(job.head, response, isBatch: job.isBatch, isStale: job.isStale)
    }
  }
}
