// The reads of a stream: in place if they are cheap, else on the pool, or sent to the primary when
// this node is not new enough.

import NIOCore
import Store
import WALShip

extension SessionStream {
  func startRead(_ step: ReadStep, _ run: StreamRunState) {
    switch transaction {
    case .none: admitted(run) { self.readHere(step, run) }
    case .begun: admitted(run) { self.openSnapshot(run) }
    case .reading(let local): read(step, in: local, run)
    case .writing, .failed: preconditionFailure("such transactions do not read here")
    }
  }

  func describe(_ sql: SQLText, _ run: StreamRunState) {
    admitted(run) {
      do throws(RequestError) {
        run.end(.description(try self.loopReader().describe(sql)))
      } catch { run.end(.failed(error)) }
    }
  }

  // MARK: Admission

  /// Calls `then` when this node is new enough. Otherwise the reads of the run go to the primary, or
  /// the run fails.
  private func admitted(_ run: StreamRunState, then: @escaping () -> Void) {
    if run.isAdmitted { return then() }
    switch node.gate.admit(run.options, session: token) {
    case .here:
      run.isAdmitted = true
      then()
    case .hereStale, .forward, .failed:
      ends(node.gate.admit(run.options, session: token), run, then)
    case let admission:
      let wait = AdmissionWait(node: node, options: run.options, seen: token, loop: loop) { ended in
        self.resume { self.ends(ended, run, then) }
      }
      suspend(cancel: wait.cancel)
      wait.start(admission)
    }
  }

  private func ends(_ admission: Admission, _ run: StreamRunState, _ then: () -> Void) {
    switch admission {
    case .here, .hereStale:
      run.isAdmitted = true
      run.isStale = run.isStale || admission == .hereStale
      then()
    case .forward: forwardReads(run)
    case .failed(let error):
      forget(ifLost: error)
      run.fail(error)
    case .wait, .askPrimary: preconditionFailure("the admission was not final")
    }
  }

  // MARK: In place

  private func readHere(_ step: ReadStep, _ run: StreamRunState) {
    do throws(RequestError) {
      let reader = try loopReader()
      let cached = try reader.statement(step.request.sql)
      guard cached.kind == .read else {
        // It could be compiled only now.
        if cached.kind == .write { return write(run) }
        return control(cached.kind, run)
      }
      if !cached.isSlow, hasReadNext(run) { try reader.beginBatch() }
      reader.lastInsertRowid = lastInsertRowid
      defer { reader.lastInsertRowid = 0 }
      var sink = StepSink(cached, wantsRows: step.wantsRows)
      switch try reader.read(cached, step.request.arguments, into: &sink) {
      case .finished(let mark): finishRead(sink.result, sink.resultBytes, mark, run)
      case .handOver:
        reader.endBatch()
        readOnPool(step, cached, run)
      }
    } catch { run.end(.failed(error)) }
  }

  private func hasReadNext(_ run: StreamRunState) -> Bool {
    guard let next = run.ahead.dropFirst().first, case .execute(let statement, _) = next.action
    else { return false }
    return StatementKind.byFirstWord(statement.sql) == .read
  }

  /// - Parameter isJudged: the snapshot was found to hold what the client has seen.
  private func finishRead(
    _ result: StatementResult, _ bytes: Int, _ mark: SnapshotMark, _ run: StreamRunState,
    isJudged: Bool = false
  ) {
    if !isJudged, case .token(let token) = mark, let error = loss(run, token.epoch) {
      return lose(run, error)
    }
    if run.outlet == nil { run.bytesLeft -= bytes }
    guard run.bytesLeft > 0 else { return run.end(.failed(.tooLarge)) }
    run.end(.result(result))
    switch mark {
    case .token(let token): raise(token)
    case .ahead(let place): hold(at: place, run)
    }
  }

  /// Why what was read in an epoch must not be told: a history that the client has seen can have been
  /// lost since the run was admitted.
  func loss(_ run: StreamRunState, _ epoch: Epoch) -> RequestError? {
    let seen = tokens(run.options)
    guard seen.contains(where: { $0.epoch < epoch }) else { return nil }
    return node.gate.refusal(of: seen, before: epoch)
  }

  private func lose(_ run: StreamRunState, _ error: RequestError) {
    forget(ifLost: error)
    run.fail(error)
  }

  /// What was read has no number yet: goes on when it has.
  private func hold(at place: LogPlace, _ run: StreamRunState) {
    let wait = PlaceWait(tracker: node.tracker, place: place, loop: loop) { position in
      self.resume {
        guard let position else { return run.replaceLast(.failed(PlaceWait.unnumbered)) }
        if let error = self.loss(run, position.epoch) {
          run.replaceLast(.failed(error))
          return self.lose(run, error)
        }
        self.raise(position.token)
      }
    }
    suspend(cancel: wait.cancel)
    wait.start(milliseconds: node.limits.statementMilliseconds)
  }

  // MARK: On the pool

  private func readOnPool(_ step: ReadStep, _ cached: CachedStatement, _ run: StreamRunState) {
    let pool = node.readers.pool
    let loop = loop
    suspend()
    let bound = NIOLoopBound((self, step, cached, run), eventLoop: loop)
    pool.checkOut(on: loop) { result in
      let (stream, step, cached, run) = bound.value
      switch result {
      case .failure(let error): stream.resume { run.end(.failed(error)) }
      case .success(let reader):
        guard !stream.isClosed else { return pool.checkIn(reader, on: loop) }
        let began = monotonicNanoseconds()
        if let outlet = run.outlet {
          let feed = stream.feed(step, on: reader, nil, run, outlet) { wasLarge in
            let microseconds = (monotonicNanoseconds() - began) / 1000
            cached.noteRun(microseconds: microseconds, wasLarge: wasLarge)
          }
          return feed.start()
        }
        stream.read(step, on: reader, run) { result in
          pool.checkIn(reader, on: loop)
          let microseconds = (monotonicNanoseconds() - began) / 1000
          let isLarge =
            ((try? result.get().result.rows.count) ?? 0) > stream.node.limits.chunkRowsMax
          cached.noteRun(microseconds: microseconds, wasLarge: isLarge)
          stream.resume { stream.finish(result, run) }
        }
      }
    }
  }

  private func finish(_ result: Result<StepRead, RequestError>, _ run: StreamRunState) {
    switch result {
    case .failure(let error): run.end(.failed(error))
    case .success(let read):
      guard let place = read.place else { return run.end(.failed(PlaceWait.unnumbered)) }
      if case .position(let position) = node.tracker.resolve(place) {
        finishRead(read.result, read.bytes, .token(position.token), run)
      } else {
        finishRead(read.result, read.bytes, .ahead(place), run)
      }
    }
  }

  /// Reads on a reader of the pool that the stream has for itself; `then` is called also when the
  /// stream was closed meanwhile.
  private func read(
    _ step: ReadStep, on reader: PooledReader, _ run: StreamRunState,
    then: @escaping (Result<StepRead, RequestError>) -> Void
  ) {
    suspend(cancel: { reader.interrupt() })
    let bound = NIOLoopBound(then, eventLoop: loop)
    reader.read(
      step.request, wantsRows: step.wantsRows, lastInsertRowid: lastInsertRowid,
      bytesMax: run.bytesLeft, milliseconds: milliseconds(run.options), on: loop
    ) { bound.value($0) }
  }

  private func feed(
    _ step: ReadStep, on reader: PooledReader, _ local: LocalTransaction?, _ run: StreamRunState,
    _ outlet: any StepOutlet, onEnd: @escaping (_ wasLarge: Bool) -> Void
  ) -> StepFeed {
    let entries = CursorEntries(step: run.outcomes.count, wantsRows: step.wantsRows)
    let rows = RowStream(
      reader: reader, request: step.request, format: .entries(entries),
      milliseconds: milliseconds(run.options), limits: node.limits, isHashed: local != nil,
      lastInsertRowid: lastInsertRowid)
    return StepFeed(
      stream: self, run: run, outlet: outlet, request: step.request, rows: rows, local: local,
      onEnd: onEnd)
  }

  private func milliseconds(_ options: RequestOptions) -> Int {
    min(options.timeoutMilliseconds ?? .max, node.limits.statementMilliseconds)
  }

  // MARK: In a transaction

  private func openSnapshot(_ run: StreamRunState) {
    suspend()
    LocalTransaction.open(on: node, loop: loop) { result in
      switch result {
      case .failure(let error): self.resume { run.end(.failed(error)) }
      case .success(let local):
        guard !self.isClosed else {
          return local.close(pool: self.node.readers.pool, on: self.loop)
        }
        self.resume {
          if let error = self.loss(run, local.position.epoch) {
            local.close(pool: self.node.readers.pool, on: self.loop)
            return self.lose(run, error)
          }
          self.transaction = .reading(local)
          self.watch(local)
        }
      }
    }
  }

  private func read(_ step: ReadStep, in local: LocalTransaction, _ run: StreamRunState) {
    if let error = local.refusal(of: run.options.token, node.gate) {
      return run.end(.failed(error))
    }
    if let outlet = run.outlet {
      return feed(step, on: local.reader, local, run, outlet) { _ in }.start()
    }
    read(step, on: local.reader, run) { result in
      self.resume {
        switch result {
        case .failure(let error): run.end(.failed(error))
        case .success(let read):
          local.record(step.request, read.hash)
          self.finishRead(
            read.result, read.bytes, .token(local.position.token), run, isJudged: true)
        }
        self.expire(local)
      }
    }
  }
}
