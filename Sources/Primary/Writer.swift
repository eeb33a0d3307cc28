// The one writer. All writes, own and forwarded, queue to one thread and one connection; those that
// wait together share a transaction and so one fsync. What is acknowledged is durable and has a
// place in the order of commits.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// The primary's engine. `submit` may be called from any thread.
final class Writer: PrimaryAccess, @unchecked Sendable {  // confined to `thread`
  /// A request that waits for the writer.
  struct Pending {
    var request: EngineRequest
    var loop: any EventLoop
    var completion: @Sendable (EngineResponse) -> Void
  }

  let database: PrimaryDatabase
  let thread: DatabaseThread
  private let reads: ForwardedReads
  private let pushes: PushedPages
  let limits: ServingLimits
  private let logger: Logger
  let timers: any EventLoop
  private struct Queue {
    var requests: [Pending] = []
    /// A job that will empty the queue is under way.
    var isScheduled = false
  }
  private let queue = Mutex(Queue())
  private let isCaptureQueued = Atomic(false)
  /// How many requests the last batch had.
  private var lastCount = 0
  /// The connection that all clients share.
  let shared: WritingConnection
  let groups: WriteGroups
  /// The connections of streams.
  let connections: StreamConnections
  var open: OpenTransaction?
  /// A timer will close the connections that streams leave unused.
  var hasSweep = false
  var nextTransaction = Chance.number(in: 1...(1 << 48) as ClosedRange<UInt64>)
  /// Set when the database can no longer be written: what an operator must know.
  private var failure: RequestError?

  init(
    database: PrimaryDatabase, thread: DatabaseThread, reads: ForwardedReads, pushes: PushedPages,
    limits: ServingLimits, timers: any EventLoop, logger: Logger
  ) throws {
    self.database = database
    self.thread = thread
    self.reads = reads
    self.pushes = pushes
    self.limits = limits
    self.timers = timers
    self.logger = logger
    shared = try WritingConnection(database.connection, policy: .client, limits: limits)
    groups = try WriteGroups(shared, limits: limits)
    connections = StreamConnections(database: database, limits: limits)
  }

  // MARK: Any thread

  func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void
  ) {
    let pending = Pending(request: request, loop: loop, completion: completion)
    if let refusal = request.accessRefusal { return answer([pending], with: .failed(refusal)) }
    switch request.work {
    case .read: reads.submit(pending)
    case .program(let program) where program.isReading: reads.submit(pending)
    case .push: pushes.submit(pending) { [weak self] in self?.enqueue($0) }
    case .write, .position, .begin, .proceed, .abandon, .program, .leave: enqueue(pending)
    }
  }

  private func enqueue(_ pending: Pending) {
    // One job empties the whole queue: a job for each request would only wake the thread more
    // often.
    let needsJob = queue.withLock { queue in
      queue.requests.append(pending)
      defer { queue.isScheduled = true }
      return !queue.isScheduled
    }
    if needsJob, !thread.submit({ [self] in drain() }) {
      let stopping = RequestError(.primaryUnavailable, "this node is stopping")
      let refused = queue.withLock { queue in
        defer { queue = Queue() }
        return queue.requests
      }
      answer(refused, with: .failed(stopping))
    }
  }

  /// There may be commits of other processes. However often this is said while the thread is busy, it
  /// looks once.
  func captureForeign() {
    guard !isCaptureQueued.exchange(true, ordering: .acquiringAndReleasing) else { return }
    thread.submit { [self] in
      isCaptureQueued.store(false, ordering: .releasing)
      guard failure == nil else { return }
      do {
        try database.captureAll()
      } catch { fail(error) }
    }
  }

  // MARK: On the thread

  func drain() {
    while true {
      gather()
      let batch = queue.withLock { queue in
        let batch = take(from: &queue.requests)
        if batch.isEmpty { queue.isScheduled = false }
        return batch
      }
      if batch.isEmpty { return }
      lastCount = batch.count
      process(batch)
    }
  }

  /// Lets those run who are about to ask for a write, where they have no processor: as many as the
  /// last batch had will come again, and a larger batch costs each of them less. On processors that
  /// are free this takes no time.
  private func gather() {
    guard lastCount > 1 else { return }
    for _ in 0..<Self.yieldsMax where queue.withLock({ $0.requests.count }) < lastCount {
      yieldThread()
    }
  }
  private static let yieldsMax = 8

  /// What may run now: while an interactive transaction is open, only what belongs to it.
  private func take(from queue: inout [Pending]) -> [Pending] {
    if open == nil {
      guard let first = queue.first else { return [] }
      guard first.request.mayShareTransaction else { return [queue.removeFirst()] }
      let count = queue.prefix(WriteGroups.requestsMax).prefix(while: \.request.mayShareTransaction)
        .count
      defer { queue.removeFirst(count) }
      return Array(queue.prefix(count))
    }
    let index = queue.firstIndex { pending in
      switch pending.request.work {
      case .proceed, .abandon, .position, .leave: true
      case .program(let program): program.transaction != nil
      case .write, .read, .begin, .push: false
      }
    }
    return index.map { [queue.remove(at: $0)] } ?? []
  }

  private func process(_ batch: [Pending]) {
    if let failure { return answer(batch, with: .failed(failure)) }
    if open == nil, let full = noRoom() { return answer(batch, with: .failed(full)) }
    let batch = admitted(batch)
    guard let first = batch.first else { return }
    switch first.request.work {
    case .write:
      finish(batch, groups.run(batch.map(\.request), program: run))
    case .program(let program):
      let isShared = open == nil && first.request.mayShareTransaction
      let responses =
        isShared
        ? groups.run(batch.map(\.request), program: run) : [run(program, first.request)]
      finish(batch, responses)
    case .position:
      finish(batch, [EngineResponse()])
    case .begin(let basis, let statements):
      finish(batch, [begin(basis, statements, first.request)])
    case .proceed(let id, let statements):
      finish(batch, [proceed(id, statements, first.request)])
    case .abandon(let id):
      if open?.id == id { rollback() }
      finish(batch, [EngineResponse()])
    case .leave(let session):
      leave(session)
      finish(batch, [EngineResponse()])
    case .push(let push):
      finish(batch, [commit(push)])
    case .read:
      preconditionFailure("reads do not come to the writer")
    }
  }

  /// Refuses those who build on what is no longer part of the history.
  private func admitted(_ batch: [Pending]) -> [Pending] {
    batch.filter { pending in
      let refusal = TokenGate.refusal(
        of: pending.request.tokens, onPrimary: database.tracker, mustBeReached: false)
      if let refusal { answer([pending], with: .failed(refusal)) }
      return refusal == nil
    }
  }

  /// A commit whose pages the map has no room for could not be captured, so it must not be made.
  private func noRoom() -> RequestError? {
    do throws(DiskError) {
      try database.map.reserve(pages: Int(database.map.live.pageCount) + Self.roomPages)
      return nil
    } catch {
      return RequestError(code: "SQLITE_FULL", message: error.description, retry: true)
    }
  }
  /// More than most transactions add.
  private static let roomPages = 4096

  /// Captures what was committed, then answers: a token must not be told before it has a meaning.
  private func finish(_ batch: [Pending], _ responses: [EngineResponse]) {
    do {
      try capture()
    } catch {
      // The writes are durable, but nobody can be told their place any more.
      fail(error)
      let unknown = RequestError(.outcomeUnknown, "the write was made, but could not be captured")
      return answer(batch, with: .failed(unknown))
    }
    let position = database.tracker.position
    let answered = zip(batch, responses).map { pending, response in
      var response = response
      response.position = position
      return (pending, response)
    }
    // One hop for each event loop, not for each request.
    var left = answered[...]
    while let loop = left.first?.0.loop {
      let group = left.filter { $0.0.loop === loop }
      left.removeAll { $0.0.loop === loop }
      loop.execute {
        for (pending, response) in group { pending.completion(response) }
      }
    }
  }

  private func answer(_ batch: [Pending], with response: EngineResponse) {
    for pending in batch { pending.loop.execute { pending.completion(response) } }
  }

  private func capture() throws {
    let own = database.connection.takeCommittedFrames()
    if let frames = [own, connections.takeCommittedFrames()].compactMap(\.self).max() {
      try database.captureDurable(through: frames)
    }
    // Commits of other processes may have come behind ours.
    try database.captureAll()
  }

  /// A follower has transactions of the present epoch that this primary never had.
  func overtaken(by ahead: Position) {
    thread.submit { [self] in
      let position = database.tracker.position
      guard failure == nil, open == nil, ahead.epoch == position.epoch, ahead.txid > position.txid
      else { return }
      do {
        guard try database.leaveEpoch() else { return }
        logger.critical(
          """
          a replica has transactions that this primary lost: its files are of an earlier moment, \
          and a new epoch begins
          """,
          metadata: [
            "replica": "\(ahead)", "primary": "\(position)",
            "epoch": "\(database.tracker.position.epoch)",
          ])
      } catch { fail(error) }
    }
  }

  /// Accepts no write any more; `reason` is the answer to all that come.
  func halt(_ reason: RequestError) {
    thread.submit { [self] in
      if open != nil { rollback() }
      failure = failure ?? reason
    }
  }

  private func fail(_ error: any Error) {
    guard failure == nil else { return }
    logger.critical(
      "the database can no longer be captured: writes stop, nothing more is shipped",
      metadata: ["error": "\(error)"])
    failure = RequestError(
      code: ErrorCode.primaryUnavailable.rawValue,
      message: "the primary stopped accepting writes: its operator must look at the log")
  }

  /// On the thread, at the end: lets go of the file.
  func closeConnections() {
    if open != nil { rollback() }
    connections.closeAll()
  }
}

extension EngineRequest {
  /// Whether the request may be in one transaction with others.
  fileprivate var mayShareTransaction: Bool {
    switch work {
    case .write: true
    case .program(let program): program.isOneWrite
    case .read, .position, .begin, .proceed, .abandon, .leave, .push: false
    }
  }
}
