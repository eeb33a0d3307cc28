// One read of a stream whose rows leave while it goes on: a piece is made when the client has taken
// the one before. In a transaction it reads the snapshot of that, else one of its own.

import NIOCore
import Store
import WALShip

/// The read of one step, from its first piece to its last. It is used on its stream's loop alone.
final class StepFeed {
  private let stream: SessionStream
  private let run: StreamRunState
  private let outlet: any StepOutlet
  private let request: StatementRequest
  private let rows: RowStream
  private let local: LocalTransaction?
  private let onEnd: (_ wasLarge: Bool) -> Void
  private var alarm: Scheduled<Void>?
  private var pieces = 0
  /// The reader's thread makes a piece.
  private var isWorking = false
  private var isExpired = false

  /// - Parameters:
  ///   - local: the transaction that the read is a part of. Without one, `rows` has a reader that is
  ///     given back to the pool at the end.
  ///   - onEnd: called when all went well.
  init(
    stream: SessionStream, run: StreamRunState, outlet: any StepOutlet, request: StatementRequest,
    rows: RowStream, local: LocalTransaction?, onEnd: @escaping (_ wasLarge: Bool) -> Void
  ) {
    self.stream = stream
    self.run = run
    self.outlet = outlet
    self.request = request
    self.rows = rows
    self.local = local
    self.onEnd = onEnd
  }

  func start() {
    stream.feed = self
    if let local {
      local.stream = rows
    } else {
      // As that of a transaction, the snapshot may not be kept for ever.
      let bound = NIOLoopBound(self, eventLoop: stream.loop)
      alarm = stream.loop.scheduleTask(
        in: .milliseconds(Int64(stream.node.limits.readTransactionMilliseconds))
      ) { bound.value.expire() }
    }
    next()
  }

  /// The time of the snapshot is over.
  func expire() {
    isExpired = true
    if isWorking { rows.reader.interrupt() } else { fail(late) }
  }

  // MARK: Pieces

  private func next() {
    guard stream.feed === self else { return }
    isWorking = true
    stream.suspend(cancel: leave)
    let bound = NIOLoopBound(self, eventLoop: stream.loop)
    rows.next(on: stream.loop) { bound.value.took($0) }
  }

  private func took(_ result: Result<ResultChunk, RequestError>) {
    isWorking = false
    let chunk: ResultChunk
    do {
      chunk = try result.get()
    } catch {
      guard !stream.isClosed else { return release(isOver: true) }
      return fail(isExpired ? late : error, isOver: true)
    }
    guard !stream.isClosed else { return release(isOver: chunk.isLast) }
    if isExpired, !chunk.isLast { return fail(late) }
    guard pieces == 0, local == nil else { return give(chunk) }
    if case .position(let position) = stream.node.tracker.resolve(chunk.place) {
      return judge(chunk, position)
    }
    // Nothing of it may be told before it is known what state it is of.
    let wait = PlaceWait(tracker: stream.node.tracker, place: chunk.place, loop: stream.loop) {
      self.judge(chunk, $0)
    }
    stream.suspend {
      wait.cancel()
      self.leave()
    }
    wait.start(milliseconds: stream.node.limits.statementMilliseconds)
  }

  private func judge(_ chunk: ResultChunk, _ position: Position?) {
    guard stream.feed === self else { return }
    guard let position else { return fail(PlaceWait.unnumbered, isOver: chunk.isLast) }
    if let error = stream.loss(run, position.epoch) {
      end(isOver: chunk.isLast)
      return stream.resume {
        stream.forget(ifLost: error)
        run.fail(error)
      }
    }
    stream.raise(position.token)
    give(chunk)
  }

  private func give(_ chunk: ResultChunk) {
    pieces += 1
    let hasRoom = outlet.take(chunk.members)
    guard !chunk.isLast else { return succeed(chunk.hash) }
    guard !hasRoom else { return next() }
    stream.suspend(cancel: leave)
    outlet.whenRoom { self.next() }
  }

  // MARK: The end

  private var late: RequestError {
    RequestError(
      .statementTimeout,
      "the rows were not taken within \(stream.node.limits.readTransactionMilliseconds) ms")
  }

  private func succeed(_ hash: ResultHasher) {
    end(isOver: true)
    onEnd(pieces > 1)
    stream.resume {
      run.endTold()
      guard let local else { return }
      local.record(request, hash)
      stream.raise(local.position.token)
      stream.expire(local)
    }
  }

  private func fail(_ error: RequestError, isOver: Bool = false) {
    end(isOver: isOver)
    stream.resume {
      run.end(.failed(error))
      guard let local else { return }
      if pieces > 0 { local.recordPart() }
      stream.expire(local)
    }
  }

  /// The stream was closed.
  private func leave() {
    alarm?.cancel()
    stream.feed = nil
    // What works now gives the reader back when it has stopped.
    if isWorking { rows.reader.interrupt() } else { release(isOver: false) }
  }

  private func end(isOver: Bool) {
    alarm?.cancel()
    stream.feed = nil
    if let local {
      local.stream = nil
      if !isOver { rows.end(on: stream.loop) {} }
    } else {
      release(isOver: isOver)
    }
  }

  /// Gives the reader back; that of a transaction goes with it.
  private func release(isOver: Bool) {
    guard local == nil else { return }
    let (pool, reader, loop) = (stream.node.readers.pool, rows.reader, stream.loop)
    guard !isOver else { return pool.checkIn(reader, on: loop) }
    rows.end(on: loop) { pool.checkIn(reader, on: loop) }
  }
}
