// The side of a node that others follow: accepts their connections and tells all of them when there
// is something new.

import Logging
import NIOCore
import NIOPosix
import Store
import Synchronization
import WALShip

/// What the followers of a node are served from; the same on a primary and on a replica that ships
/// onwards.
public struct ShipSource: Sendable {
  public var role: NodeRole
  public var node: NodeIdentity
  public var tracker: PositionTracker
  public var map: PageMapFile
  public var ring: TransactionRing
  public var pages: PageSource
  /// The way to the primary's engine, for what followers forward.
  public var primary: any PrimaryAccess
  /// The nodes above this one, the primary first; without this one.
  public var lineage: @Sendable () -> [DatabaseID]
  /// Milliseconds since this node had contact with the primary.
  public var contactMilliseconds: @Sendable () -> UInt64
  /// Something does not add up, here or at a follower: this node's pages should be checked.
  public var doubt: @Sendable () -> Void
  /// A follower has seen this later epoch, of another primary.
  public var superseded: @Sendable (Epoch) -> Void
  /// A follower stands behind a transaction of the present epoch that this primary does not have.
  public var overtaken: @Sendable (Position) -> Void
  /// While a replica knows of damage, it takes no followers: what they would be compared with is
  /// what the damage has made of it. A primary's pages are sent only if they are what its map says.
  public var health: NodeHealth?

  public init(
    role: NodeRole, node: NodeIdentity, tracker: PositionTracker, map: PageMapFile,
    ring: TransactionRing,
    pages: PageSource, primary: any PrimaryAccess,
    lineage: @escaping @Sendable () -> [DatabaseID],
    contactMilliseconds: @escaping @Sendable () -> UInt64,
    doubt: @escaping @Sendable () -> Void,
    superseded: @escaping @Sendable (Epoch) -> Void = { _ in },
    overtaken: @escaping @Sendable (Position) -> Void = { _ in },
    health: NodeHealth? = nil
  ) {
    self.role = role
    self.node = node
    self.tracker = tracker
    self.map = map
    self.ring = ring
    self.pages = pages
    self.primary = primary
    self.lineage = lineage
    self.contactMilliseconds = contactMilliseconds
    self.doubt = doubt
    self.superseded = superseded
    self.overtaken = overtaken
    self.health = health
  }
}

/// How links between nodes are watched.
public enum ShipTiming {
  /// Down the chain: what a replica says of its contact with the primary is as old at most.
  public static let heartbeatSecondsDown = 1
  public static let heartbeatSecondsUp = 5
  /// A link on which nothing was heard for so long is dead.
  public static let silenceSecondsMax = 12
  public static let handshakeSecondsMax = 10
}

/// What is known of one follower.
public struct FollowerStatus: Equatable, Sendable {
  public var address: String
  public var name: String
  public var state: String
  public var txid: TXID
  public var bytesSent: UInt64
  /// Monotonic time of the last message from it.
  public var heardNanoseconds: UInt64
  /// Monotonic time since which it lags behind; nil while it has everything.
  public var behindSinceNanoseconds: UInt64?
  /// It has everything, and nothing of its clients is under way.
  public var isAtRest = false
}

/// Serves followers.
public final class ShipServer: @unchecked Sendable {  // confined to `loop`
  let source: ShipSource
  let secret: ShipSecret?
  private let transport: (any TransportSecurity)?
  /// Whether clients of this node must show credentials, and so those of its followers, too.
  let asksForCredentials: Bool
  let logger: Logger
  /// The thread of `loop`, where it has one of its own.
  private let group: MultiThreadedEventLoopGroup?
  let loop: any EventLoop
  /// In the order in which they came.
  private var sessions: [ShipServerSession] = []
  private var channel: (any Channel)?
  /// Why nothing is shipped.
  private(set) var trouble: ShipRefusal?
  private let isNotified = Atomic<Bool>(false)
  private let lastUse = Atomic<UInt64>(0)
  private let statuses = Mutex<[ObjectIdentifier: FollowerStatus]>([:])

  /// - Parameters:
  ///   - transport: TLS; nil for plain text.
  ///   - asksForCredentials: whether the clients of this node must show who they are.
  ///   - loop: where followers are served; nil for a loop, and a thread, of its own.
  public init(
    source: ShipSource, secret: ShipSecret?, transport: (any TransportSecurity)? = nil,
    asksForCredentials: Bool, logger: Logger, loop: (any EventLoop)? = nil
  ) {
    self.transport = transport
    self.asksForCredentials = asksForCredentials
    self.source = source
    self.secret = secret
    self.logger = logger
    if let loop {
      group = nil
      self.loop = loop
    } else {
      let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
      self.group = group
      self.loop = group.next()
    }
  }

  /// What serves one follower, as a handler of its connection.
  package func makeSession() -> any ChannelInboundHandler {
    ShipLink(session: ShipServerSession(server: self))
  }

  /// Serves a follower on a stream of a link with many databases; on the loop.
  func serve(_ join: ShipJoin, by outlet: any ShipOutlet) -> ShipServerSession {
    let session = ShipServerSession(server: self)
    session.begin(outlet, join: join)
    return session
  }

  /// Begins to accept followers.
  ///
  /// - Returns: the address in use, with the port that the system chose if it was 0.
  public func start(host: String, port: Int) async throws -> SocketAddress {
    let listener = try await ShipListener.start(
      on: loop, host: host, port: port, transport: transport, logger: logger
    ) { [self] in makeSession() }
    channel = listener.channel
    return listener.address
  }

  public func stop() async {
    try? await channel?.close().get()
    try? await loop.submit { [self] in for session in sessions { session.close() } }.get()
    try? await group?.shutdownGracefully()
  }

  /// Parks all followers, or none: what they send arrives on the loop, so nothing of it comes in
  /// between.
  ///
  /// - Returns: false when one has something under way, or lacks something.
  public func parkIfAtRest() async -> Bool {
    let isParked: Bool? = try? await loop.submit { [self] in
      guard sessions.allSatisfy({ $0.isAtRest }) else { return false }
      for session in sessions { session.park() }
      return true
    }.get()
    return isParked ?? true
  }

  /// The database closes, and this server with it: see `ShipServerSession.park`.
  public func park() async {
    try? await loop.submit { [self] in for session in sessions { session.park() } }.get()
  }

  /// Whether every follower has everything, and nothing of their clients is under way.
  public var isAtRest: Bool {
    let head = source.tracker.position.txid
    return statuses.withLock { $0.values.allSatisfy { $0.isAtRest && $0.txid >= head } }
  }

  /// When a follower last forwarded a request, by the monotonic clock; 0 for never.
  public var usedNanoseconds: UInt64 { lastUse.load(ordering: .relaxed) }
  func noteUse() { lastUse.store(monotonicNanoseconds(), ordering: .relaxed) }

  /// There may be something new for the followers. May be called from any thread.
  public func notify() {
    guard !isNotified.exchange(true, ordering: .acquiringAndReleasing) else { return }
    loop.execute { [self] in
      isNotified.store(false, ordering: .releasing)
      for session in sessions { session.pump() }
    }
  }

  /// Ships nothing from now on; the followers are told why.
  public func halt(_ trouble: ShipRefusal) {
    loop.execute { [self] in
      guard self.trouble == nil else { return }
      self.trouble = trouble
      for session in sessions { session.refuse(trouble.reason, trouble.message) }
    }
  }

  /// Sends the present followers away; they may come back. May be called from any thread.
  public func turnAway(_ reason: ShipRefusal) {
    loop.execute { [self] in
      for session in sessions { session.refuse(reason.reason, reason.message) }
    }
  }

  /// Lets the followers join again, to learn which nodes are above them now: what they were told
  /// when they joined is how loops are found. May be called from any thread.
  public func lineageChanged() {
    loop.execute { [self] in for session in sessions { session.close() } }
  }

  public var followers: [FollowerStatus] {
    statuses.withLock { $0.values.sorted { ($0.name, $0.address) < ($1.name, $1.address) } }
  }

  // MARK: For sessions, on the loop

  func add(_ session: ShipServerSession) { sessions.append(session) }

  func remove(_ session: ShipServerSession) {
    sessions.removeAll { $0 === session }
    statuses.withLock { $0[ObjectIdentifier(session)] = nil }
  }

  func report(_ session: ShipServerSession, _ status: FollowerStatus) {
    statuses.withLock { $0[ObjectIdentifier(session)] = status }
  }
}
