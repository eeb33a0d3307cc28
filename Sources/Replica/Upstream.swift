// The link to the node above: connects, tries again with growing pauses, and carries requests up.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// The upstream side of a replica. All of it runs on the applier's event loop, apart from `submit`
/// and `status`.
final class Upstream: PrimaryAccess, @unchecked Sendable {  // confined to `loop`
  struct Status: Sendable {
    var address = ""
    var state = "connecting"
    /// Monotonic time of the last message from upstream.
    var heardNanoseconds: UInt64?
    /// How old the upstream's own contact with the primary was then.
    var contactMilliseconds: UInt64 = 0
    var head = TXID.zero
    var behindSinceNanoseconds: UInt64?
    var progress: NodeStatus.CopyProgress?
    var lastError: String?
    var lineage: [DatabaseID] = []

    /// The age of the last contact with the primary; nil before the first one.
    func contactMilliseconds(now: UInt64) -> UInt64? {
      guard let heardNanoseconds, contactMilliseconds < ShipHeartbeat.noContactMilliseconds else {
        return nil
      }
      return (now - min(now, heardNanoseconds)) / 1_000_000 + contactMilliseconds
    }
  }

  private struct Waiting {
    var request: EngineRequest
    var loop: any EventLoop
    var completion: @Sendable (EngineResponse) -> Void
  }

  let loop: any EventLoop
  let content: ReplicaContent
  let node: NodeIdentity
  let secret: ShipSecret?
  let logger: Logger
  private let addresses: [NodeAddress]
  private let link: UpstreamLink
  private var nextAddress = 0
  private var failures = 0
  private var session: UpstreamSession?
  private var waiting: [UInt64: Waiting] = [:]
  private var nextRequest: UInt64 = 0
  private var isStopped = false
  private let shared = Mutex(Status())
  /// The next connection asks for a comparison.
  var wantsComparison = false
  /// Called after something was published.
  var onPublish: () -> Void = {}
  /// Called when the nodes above are others than before.
  var onLineage: () -> Void = {}

  private static let pauseMillisecondsMax: Int64 = 2000

  init(
    loop: any EventLoop, content: ReplicaContent, addresses: [NodeAddress], node: NodeIdentity,
    secret: ShipSecret?, logger: Logger, link: @escaping UpstreamLink = connectByTCP(nil)
  ) {
    self.link = link
    self.loop = loop
    self.content = content
    self.addresses = addresses
    self.node = node
    self.secret = secret
    self.logger = logger
  }

  // MARK: Any thread

  var status: Status { shared.withLock { $0 } }

  func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void
  ) {
    let (began, isWrite) = (monotonicNanoseconds(), request.isWrite)
    let waiting = Waiting(request: request, loop: loop) { response in
      NodeMeters.noteForwarded(isWrite: isWrite, nanoseconds: monotonicNanoseconds() - began)
      completion(response)
    }
    if self.loop.inEventLoop {
      send(waiting)
    } else {
      self.loop.execute { [self] in send(waiting) }
    }
  }

  // MARK: Connecting, on the loop

  func connect() {
    guard !isStopped, session == nil else { return }
    if content.isPreparing { return connect(after: .milliseconds(100)) }
    do {
      try content.settle()
    } catch {
      return ended(reason: "\(error)")
    }
    let address = addresses[nextAddress % addresses.count]
    update { status in
      status.address = "\(address)"
      status.state = "connecting"
    }
    let bound = NIOLoopBound(self, eventLoop: loop)
    link(address, loop) {
      let session = UpstreamSession(upstream: bound.value)
      bound.value.session = session
      return session
    }.whenFailure { error in bound.value.ended(reason: "\(address): \(brief(error))") }
  }

  /// The connection is over, or was never made.
  func ended(reason: String?) {
    session = nil
    content.abandon()
    fail(reason)
    guard !isStopped else { return }
    nextAddress += 1
    failures += 1
    update { status in
      status.state = "connecting"
      status.progress = nil
      if let reason { status.lastError = reason }
    }
    if let reason, failures <= 3 || failures % 30 == 0 {
      logger.warning(
        "the upstream is away", metadata: ["reason": "\(reason)", "tries": "\(failures)"])
    }
    let ceiling = min(Self.pauseMillisecondsMax, 50 << Int64(min(failures, 6)))
    let pause = Chance.number(in: ceiling / 2...ceiling)
    connect(after: .milliseconds(pause))
  }

  private func connect(after pause: TimeAmount) {
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: pause) { bound.value.connect() }
  }

  /// Has damaged pages sent again; now, or as soon as there is a link.
  func repair(_ wrong: [WrongPage]) {
    content.note(damaged: wrong)
    do {
      try session?.repair()
    } catch {
      session?.fail(error)
    }
  }

  func joined(_ welcome: ShipWelcome) {
    failures = 0
    wantsComparison = false
    let hasMoved = status.lineage != welcome.lineage
    update { status in
      status.lastError = nil
      status.lineage = welcome.lineage
      // Another history, or another upstream, can have fewer transactions.
      status.head = welcome.position.txid
      status.behindSinceNanoseconds = nil
      // The first heartbeat says when the node above heard from the primary.
      status.contactMilliseconds = ShipHeartbeat.noContactMilliseconds
    }
    if hasMoved { onLineage() }
    logger.info(
      "following upstream",
      metadata: [
        "address": "\(status.address)", "plan": "\(welcome.plan)",
        "position": "\(welcome.position)",
      ])
  }

  func stop() {
    isStopped = true
    session?.close(reason: nil)
    fail("this node is stopping")
  }

  func update(_ change: (inout Status) -> Void) { shared.withLock { change(&$0) } }

  // MARK: Requests, on the loop

  private func send(_ waiting: Waiting) {
    guard let session, session.isServing else {
      let contact = status.lastError.map { " (\($0))" } ?? ""
      return answer(
        waiting,
        .failed(RequestError(.primaryUnavailable, "the primary cannot be reached\(contact)")))
    }
    nextRequest += 1
    self.waiting[nextRequest] = waiting
    session.send(waiting.request, number: nextRequest)
  }

  func received(_ response: EngineResponse, for number: UInt64) {
    guard let waiting = waiting.removeValue(forKey: number) else { return }
    guard let position = response.position, waiting.request.isWrite,
      let tracker = content.database?.tracker
    else { return answer(waiting, response) }
    // The client's next read here must see its own write.
    hold(waiting, response, until: position, tracker)
  }

  private func hold(
    _ waiting: Waiting, _ response: EngineResponse, until position: Position,
    _ tracker: PositionTracker
  ) {
    let held = HeldAnswer { waiting.loop.execute { waiting.completion(response) } }
    let id = tracker.whenReached(.transaction(position.txid)) { held.release() }
    // A link that broke just now may take a while: the client has its token and need not wait for
    // that.
    held.release(
      by: loop.scheduleTask(in: .seconds(5)) {
        tracker.cancel(id)
        tracker.promise(position)
        held.release()
      })
  }

  private func answer(_ waiting: Waiting, _ response: EngineResponse) {
    waiting.loop.execute { waiting.completion(response) }
  }

  /// What was sent and not answered may have been done, or not.
  private func fail(_ reason: String?) {
    let lost = waiting.values
    waiting = [:]
    let why = reason ?? "the link to the primary broke"
    for waiting in lost {
      let error =
        waiting.request.isWrite
        ? RequestError(
          .outcomeUnknown, "\(why), after the write was sent: it was made once, or not at all")
        : RequestError(.primaryUnavailable, why)
      answer(waiting, .failed(error))
    }
  }
}
