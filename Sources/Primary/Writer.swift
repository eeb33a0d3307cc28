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

  /// An interactive transaction, which has the writer to itself.
  private struct OpenTransaction {
    var id: UInt64
    var deadlineNanoseconds: UInt64
  }

  let database: PrimaryDatabase
  private let thread: DatabaseThread
  private let reads: ForwardedReads
  private let limits: ServingLimits
  private let logger: Logger
  private let timers: any EventLoop
  private struct Queue {
    var requests: [Pending] = []
    /// A job that will empty the queue is under way.
    var isScheduled = false
  }
  private let queue = Mutex(Queue())
  private let groups: WriteGroups
  private var open: OpenTransaction?
  private var nextTransaction = Chance.number(in: 1...(1 << 48) as ClosedRange<UInt64>)
  /// Set when the database can no longer be written: what an operator must know.
  private var failure: RequestError?

  init(
    database: PrimaryDatabase, thread: DatabaseThread, reads: ForwardedReads,
    limits: ServingLimits, timers: any EventLoop, logger: Logger
  ) throws {
    self.database = database
    self.thread = thread
    self.reads = reads
    self.limits = limits
    self.timers = timers
    self.logger = logger
    groups = try WriteGroups(database: database, limits: limits)
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
    case .write, .position, .begin, .proceed, .abandon:
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
  }

  /// There may be commits of other processes.
  func captureForeign() {
    thread.submit { [self] in
      guard failure == nil else { return }
      do {
        try database.captureAll()
      } catch { fail(error) }
    }
  }

  // MARK: On the thread

  private func drain() {
    while true {
      let batch = queue.withLock { queue in
        let batch = take(from: &queue.requests)
        if batch.isEmpty { queue.isScheduled = false }
        return batch
      }
      if batch.isEmpty { return }
      process(batch)
    }
  }

  /// What may run now: while an interactive transaction is open, only what belongs to it.
  private func take(from queue: inout [Pending]) -> [Pending] {
    if open == nil {
      guard let first = queue.first else { return [] }
      guard case .write = first.request.work else { return [queue.removeFirst()] }
      let count = queue.prefix(WriteGroups.requestsMax).prefix { pending in
        if case .write = pending.request.work { true } else { false }
      }.count
      defer { queue.removeFirst(count) }
      return Array(queue.prefix(count))
    }
    let index = queue.firstIndex { pending in
      switch pending.request.work {
      case .proceed, .abandon, .position: true
      case .write, .read, .begin: false
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
      let responses = groups.run(batch.map(\.request))
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
    if let frames = database.connection.takeCommittedFrames() {
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

  // MARK: Interactive transactions

  private func begin(
    _ basis: TransactionBasis?, _ statements: [StatementRequest], _ request: EngineRequest
  ) -> EngineResponse {
    do throws(RequestError) {
      try groups.begin()
    } catch { return .failed(error) }
    nextTransaction += 1
    let id = nextTransaction
    let limit = UInt64(limits.transactionMilliseconds) * 1_000_000
    open = OpenTransaction(id: id, deadlineNanoseconds: monotonicNanoseconds() + limit)
    timers.scheduleTask(in: .milliseconds(Int64(limits.transactionMilliseconds))) { [self] in
      thread.submit { [self] in expire(id) }
    }
    if let basis, !isCurrent(basis) {
      do throws(RequestError) {
        try groups.verify(basis, timeoutMilliseconds: request.timeoutMilliseconds)
      } catch {
        rollback()
        return .failed(error)
      }
    }
    return run(statements, request)
  }

  /// Nothing was committed since the transaction looked: its reads need no second look.
  private func isCurrent(_ basis: TransactionBasis) -> Bool {
    guard (try? database.captureAll()) != nil else { return false }
    let position = database.tracker.position
    return basis.epoch == position.epoch && basis.txid == position.txid
  }

  private func proceed(
    _ id: UInt64, _ statements: [StatementRequest], _ request: EngineRequest
  ) -> EngineResponse {
    guard open?.id == id else {
      return .failed(
        RequestError(
          .transactionTimeout,
          "the transaction is over: it took longer than \(limits.transactionMilliseconds) ms and was rolled back"
        ))
    }
    return run(statements, request)
  }

  private func run(_ statements: [StatementRequest], _ request: EngineRequest) -> EngineResponse {
    var response = groups.runInTransaction(
      statements, timeoutMilliseconds: request.timeoutMilliseconds,
      enforcesForeignKeys: request.enforcesForeignKeys)
    if database.connection.isAutocommit {
      open = nil
    } else {
      response.transaction = open?.id
    }
    return response
  }

  private func expire(_ id: UInt64) {
    guard open?.id == id else { return }
    rollback()
    drain()
  }

  private func rollback() {
    groups.rollback()
    open = nil
  }
}
