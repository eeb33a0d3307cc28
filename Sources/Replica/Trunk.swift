// The link of a replica with many databases to the node above: one connection, on which each
// database that is followed at this moment has a stream. Connects, and tries again with growing
// pauses. What is to be followed is decided in `DatabaseFollowing`.

import Logging
import NIOCore
import NIOPosix
import Serving
import Store
import Synchronization
import WALShip

/// What the link tells of the databases above; called on the link's loop.
protocol TrunkFollower: AnyObject {
  func news(_ news: ShipNews)
  func listed()
  func linkLost()
  func streamBegan(_ name: String, _ number: UInt16)
  func streamEnded(_ name: String, _ number: UInt16)
  func streamReported(_ name: String, _ position: Position?)
}

/// The link above. It belongs to `loop`, apart from what is marked otherwise.
package final class Trunk: @unchecked Sendable {  // confined to `loop`, or under a lock
  private struct Status: Sendable {
    var address = ""
    var isLinked = false
    var lineage: [DatabaseID] = []
    var heardNanoseconds: UInt64?
    var contactMilliseconds = ShipHeartbeat.noContactMilliseconds
    var lastError: String?
    var streams = 0
  }

  let loop: any EventLoop
  /// Who this node is to those above and below.
  let node: NodeIdentity
  let secret: ShipSecret?
  let filter: DatabaseFilter
  let logger: Logger
  private let addresses: [NodeAddress]
  private let connect: UpstreamLink
  private let folder: DataFolder
  weak var follower: (any TrunkFollower)?
  /// Called when the nodes above are others than before.
  var onLineage: () -> Void = {}

  private let shared = Mutex(Status())
  private var link: TrunkLink?
  private var streams: [UInt16: TrunkOutlet] = [:]
  private var nextNumber: UInt16 = 1
  private var nextAddress = 0
  private var changes = TrunkChanges()
  private var failures = 0
  private var isStopped = false
  private static let pauseMillisecondsMax: Int64 = 2000

  init(
    loop: any EventLoop, addresses: [NodeAddress], node: NodeIdentity, filter: DatabaseFilter,
    folder: DataFolder, secret: ShipSecret?, logger: Logger, connect: @escaping UpstreamLink
  ) {
    self.loop = loop
    self.addresses = addresses
    self.node = node
    self.filter = filter
    self.folder = folder
    self.secret = secret
    self.logger = logger
    self.connect = connect
  }

  // MARK: Any thread

  var address: String { shared.withLock { $0.address } }
  /// Whether streams can be opened now.
  var isLinked: Bool { shared.withLock { $0.isLinked } }
  var lineage: [DatabaseID] { shared.withLock { $0.lineage } }
  var lastError: String? { shared.withLock { $0.lastError } }
  var streamCount: Int { shared.withLock { $0.streams } }

  /// The age of the last contact with the primary; nil before the first one.
  var contactMilliseconds: UInt64? {
    let now = monotonicNanoseconds()
    return shared.withLock { status in
      guard let heard = status.heardNanoseconds,
        status.contactMilliseconds < ShipHeartbeat.noContactMilliseconds
      else { return nil }
      return (now - min(now, heard)) / 1_000_000 + status.contactMilliseconds
    }
  }

  /// A stream for a session, to be used on the session's loop; it is opened with the first message.
  func stream(for session: UpstreamSession, named name: String) -> any ShipOutlet {
    TrunkOutlet(trunk: self, name: name, session: session)
  }

  /// Returns once the link has heard of the end of every stream that was closed before: from then on
  /// it uses their loops no more.
  func settle() async { try? await loop.submit {}.get() }

  /// Where a database stands after a stream, from which nothing more comes; nil before there is one.
  func report(_ name: String, _ position: Position?) {
    loop.execute { [self] in follower?.streamReported(name, position) }
  }

  /// Has a change made by the primary.
  ///
  /// - Parameters:
  ///   - isAnonymous: whether nobody has asked its client who it is.
  ///   - completion: called from any thread; without an error the change is durable there.
  func change(
    _ change: DatabaseChange, isAnonymous: Bool, completion: @escaping TrunkChanges.Completion
  ) {
    loop.execute { [self] in
      guard let link, link.isServing else {
        return completion(
          RequestError(.primaryUnavailable, "the primary cannot be reached from this node"))
      }
      guard !changes.isFull else {
        return completion(RequestError(.overloaded, "too many changes wait for the primary"))
      }
      let bound = NIOLoopBound(self, eventLoop: loop)
      let number = changes.add(completion) { number in
        loop.scheduleTask(in: .seconds(TrunkChanges.secondsMax)) {
          bound.value.changes.answered(number, TrunkChanges.late)
        }
      }
      let asked = ShipChange(number: number, act: change.asked, isAnonymous: isAnonymous)
      link.send(ShipMessage(.change, body: asked.encode()))
      link.flush()
    }
  }

  func changed(_ answer: ShipChanged) { changes.answered(answer.number, answer.error) }

  // MARK: Connecting

  func start() {
    guard !isStopped, link == nil else { return }
    let address = addresses[nextAddress % addresses.count]
    shared.withLock { $0.address = "\(address)" }
    let bound = NIOLoopBound(self, eventLoop: loop)
    connect(address, loop) {
      let link = TrunkLink(trunk: bound.value, identity: bound.value.folder.identity)
      bound.value.link = link
      return link
    }.whenFailure { error in bound.value.ended("\(address): \(brief(error))") }
  }

  /// The upstream has introduced itself, and proven that it knows the secret.
  func attached(_ catalogue: ShipCatalogue) throws {
    // Whoever knows which folder this is, and so can be followed, knows those above.
    let hasMoved = shared.withLock { status in
      defer { status.lineage = catalogue.lineage }
      return status.lineage != catalogue.lineage
    }
    if folder.identity == nil { try folder.adopt(catalogue.catalogue) }
    failures = 0
    shared.withLock { status in
      status.isLinked = true
      status.lastError = nil
    }
    if hasMoved { onLineage() }
    logger.info(
      "following upstream", metadata: ["address": "\(address)", "databases": "\(filter)"])
  }

  func heard(_ contactMilliseconds: UInt64? = nil) {
    let now = monotonicNanoseconds()
    shared.withLock { status in
      status.heardNanoseconds = now
      if let contactMilliseconds { status.contactMilliseconds = contactMilliseconds }
    }
  }

  /// The connection is over, or was never made.
  func ended(_ reason: String?) {
    link = nil
    shared.withLock { status in
      status.isLinked = false
      status.streams = 0
      if let reason { status.lastError = reason }
    }
    let lost = streams.values
    streams = [:]
    for stream in lost { stream.linkLost(reason) }
    changes.linkLost()
    follower?.linkLost()
    guard !isStopped else { return }
    nextAddress += 1
    failures += 1
    if let reason, failures <= 3 || failures % 30 == 0 {
      logger.warning(
        "the upstream is away", metadata: ["reason": "\(reason)", "tries": "\(failures)"])
    }
    let ceiling = min(Self.pauseMillisecondsMax, 50 << Int64(min(failures, 6)))
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .milliseconds(Chance.number(in: ceiling / 2...ceiling))) {
      bound.value.start()
    }
  }

  func stop() {
    isStopped = true
    link?.close(nil)
  }

  // MARK: Streams

  /// Opens a stream with its first message.
  ///
  /// - Returns: its number; nil when there is no link.
  func open(_ outlet: TrunkOutlet) -> UInt16? {
    guard link?.isServing == true, streams.count < ShipTrunk.streamsMax else { return nil }
    while nextNumber == ShipTrunk.linkStream || streams[nextNumber] != nil { nextNumber &+= 1 }
    let number = nextNumber
    nextNumber &+= 1
    streams[number] = outlet
    noteStreams()
    follower?.streamBegan(outlet.name, number)
    return number
  }

  func send(_ messages: ByteBuffer) {
    link?.write(messages)
    link?.flush()
  }

  /// The upstream has ended a stream: its number is free once this side has as well.
  func ended(_ number: UInt16, _ end: ShipEnd) {
    guard let outlet = streams.removeValue(forKey: number) else { return }
    noteStreams()
    outlet.endedAbove(end)
    follower?.streamEnded(outlet.name, number)
  }

  func stream(_ number: UInt16) -> TrunkOutlet? { streams[number] }

  private func noteStreams() {
    let count = streams.count
    shared.withLock { $0.streams = count }
  }
}
