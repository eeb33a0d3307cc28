// The link to the node above: connects, tries again with growing pauses, and carries requests up. On
// a link with many databases it is a stream, which rests while the database does.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// The upstream side of a replica. All of it runs on the applier's event loop, apart from `submit`
/// and `status`.
final class Upstream: PrimaryAccess, @unchecked Sendable {  // confined to `loop`
  private struct Waiting {
    var request: EngineRequest
    var loop: any EventLoop
    var completion: @Sendable (EngineResponse) -> Void
  }

  /// How the node above is reached.
  enum Way {
    case connection(UpstreamLink)
    /// A stream of a link with many databases.
    case trunk(Trunk)
  }

  let loop: any EventLoop
  let content: ReplicaContent
  /// Of the database, on a link with many.
  let name: String
  let node: NodeIdentity
  let secret: ShipSecret?
  let logger: Logger
  private let addresses: [NodeAddress]
  private let way: Way
  private var nextAddress = 0
  private var failures = 0
  private var session: UpstreamSession?
  private var waiting: [UInt64: Waiting] = [:]
  private var nextRequest: UInt64 = 0
  private var isStopped = false
  /// Requests that go out as soon as there is a stream.
  private var queued: [Waiting] = []
  private static let queuedMax = 1024
  /// Those who wait until nothing is missing, or nothing can be had.
  private var resting: [(Bool) -> Void] = []
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
    secret: ShipSecret?, logger: Logger, name: String, way: Way
  ) {
    self.way = way
    self.name = name
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
    let link: UpstreamLink
    switch way {
    case .connection(let way): link = way
    case .trunk(let trunk): return openStream(trunk)
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
      return ShipLink(session: session)
    }.whenFailure { error in bound.value.ended(reason: "\(address): \(brief(error))") }
  }

  private func openStream(_ trunk: Trunk) {
    let session = UpstreamSession(upstream: self, isStream: true)
    self.session = session
    update { status in
      status.address = trunk.address
      status.state = "connecting"
      status.isBusy = true
    }
    session.begin(trunk.stream(for: session, named: name))
  }

  /// The connection is over, or was never made.
  func ended(reason: String?) {
    session = nil
    content.abandon()
    report()
    fail(reason)
    rest(false)
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
    if case .trunk = way { wake() }
    do {
      try session?.repair()
    } catch {
      session?.fail(error)
    }
  }

  /// The database rests at the upstream, and this replica has all of it. What was sent and not
  /// answered was not taken.
  func parked() {
    session = nil
    failures = 0
    content.abandon()
    report()
    update { $0.state = "idle" }
    queued = waiting.sorted { $0.key < $1.key }.map(\.value) + queued
    waiting = [:]
    rest(true)
    if !queued.isEmpty { connect() }
  }

  /// Tells the link where this replica stands, now that nothing more comes from the stream.
  private func report() {
    guard case .trunk(let trunk) = way else { return }
    trunk.report(name, content.database?.tracker.position)
  }

  /// Follows again, if it does not.
  func wake() { if session == nil { connect() } }

  /// - Parameter then: called once: with true when nothing is missing that the upstream told of, with
  ///   false when it cannot be had now.
  func whenAtRest(_ then: @escaping (Bool) -> Void) {
    resting.append(then)
    checkRest()
  }

  /// Whether everything is here that the upstream told of.
  func checkRest() {
    guard let session, case .serving(let receiver) = session.phase,
      case .streaming(let txid) = receiver.state, txid >= status.head,
      content.database?.tracker.position.txid ?? .zero >= status.head
    else { return }
    rest(true)
  }

  private func rest(_ hasAll: Bool) {
    update { $0.isBusy = false }
    let told = resting
    resting = []
    for tell in told { tell(hasAll) }
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
    let requests = queued
    queued = []
    for request in requests { send(request) }
  }

  func stop() {
    isStopped = true
    session?.close(reason: nil)
    fail("this node is stopping")
    rest(false)
  }

  func update(_ change: (inout Status) -> Void) { shared.withLock { change(&$0) } }

  // MARK: Requests, on the loop

  private func send(_ waiting: Waiting) {
    guard let session, session.isServing else {
      if case .trunk(let trunk) = way, trunk.isLinked, !isStopped, queued.count < Self.queuedMax {
        queued.append(waiting)
        return wake()
      }
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
    let unsent = queued
    queued = []
    for waiting in unsent { answer(waiting, .failed(RequestError(.primaryUnavailable, why))) }
  }
}
