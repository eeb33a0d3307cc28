// The side of a node with many databases that others follow: accepts their links, and tells all of
// them where the databases stand that they do not follow at this moment. How one database is served
// on its stream is the same as on a link of its own: `ShipServerSession`.

import Logging
import NIOCore
import Store
import Synchronization
import WALShip

/// Where the links of followers end. It belongs to `loop`, apart from what is marked otherwise.
public final class TrunkServer: @unchecked Sendable {  // confined to `loop`
  /// What a trunk server is made of; may be used from any thread.
  public struct Source: Sendable {
    public var node: NodeIdentity
    public var databases: OnDemandDatabases
    /// Which folder this is; nil while nobody knows.
    public var identity: @Sendable () -> DatabaseID?
    /// The nodes above this one, the primary first; without this one.
    public var lineage: @Sendable () -> [DatabaseID]
    /// Milliseconds since this node had contact with the primary.
    public var contactMilliseconds: @Sendable () -> UInt64
    /// Whether the clients of this node must show who they are.
    public var asksForCredentials: Bool

    public init(
      node: NodeIdentity, databases: OnDemandDatabases, asksForCredentials: Bool,
      identity: @escaping @Sendable () -> DatabaseID?,
      lineage: @escaping @Sendable () -> [DatabaseID] = { [] },
      contactMilliseconds: @escaping @Sendable () -> UInt64 = { 0 }
    ) {
      self.node = node
      self.databases = databases
      self.asksForCredentials = asksForCredentials
      self.identity = identity
      self.lineage = lineage
      self.contactMilliseconds = contactMilliseconds
    }
  }

  let source: Source
  let secret: ShipSecret?
  let logger: Logger
  let loop: any EventLoop
  private let transport: (any TransportSecurity)?
  private var sessions: [TrunkSession] = []
  private let channel = Mutex<(any Channel)?>(nil)
  private let isNotified = Atomic<Bool>(false)
  private let isStopped = Atomic<Bool>(false)
  private let links = Atomic<Int>(0)

  /// - Parameters:
  ///   - transport: TLS; nil for plain text.
  ///   - loop: where the ship servers of all databases run as well.
  public init(
    source: Source, secret: ShipSecret?, transport: (any TransportSecurity)?, logger: Logger,
    loop: any EventLoop
  ) {
    self.source = source
    self.secret = secret
    self.transport = transport
    self.logger = logger
    self.loop = loop
    source.databases.catalogue.listen { [weak self] in self?.notify() }
  }

  // MARK: Any thread

  /// Begins to accept followers.
  ///
  /// - Returns: the address in use, with the port that the system chose if it was 0.
  public func start(host: String, port: Int) async throws -> SocketAddress {
    let listener = try await ShipListener.start(
      on: loop, host: host, port: port, transport: transport, logger: logger
    ) { [self] in TrunkSession(server: self) }
    channel.withLock { $0 = listener.channel }
    return listener.address
  }

  /// Closes all links. The databases are still open then.
  public func stop() async {
    isStopped.store(true, ordering: .relaxed)
    try? await channel.withLock { $0 }?.close().get()
    try? await loop.submit { [self] in for session in sessions { session.close() } }.get()
  }

  /// How many followers are connected.
  public var linkCount: Int { links.load(ordering: .relaxed) }

  /// Lets the followers attach again who were told of other nodes than those above them now.
  public func lineageChanged() {
    loop.execute { [self] in
      let lineage = source.lineage()
      for session in sessions where session.lineage ?? lineage != lineage { session.close() }
    }
  }

  /// Databases may have changed that a follower must be told of.
  private func notify() {
    guard !isStopped.load(ordering: .relaxed),
      !isNotified.exchange(true, ordering: .acquiringAndReleasing)
    else { return }
    loop.execute { [self] in
      isNotified.store(false, ordering: .releasing)
      let changed = source.databases.catalogue.takeChanged()
      for session in sessions { session.changed(changed) }
    }
  }

  // MARK: For sessions, on the loop

  func add(_ session: TrunkSession) {
    sessions.append(session)
    links.store(sessions.count, ordering: .relaxed)
  }

  func remove(_ session: TrunkSession) {
    sessions.removeAll { $0 === session }
    links.store(sessions.count, ordering: .relaxed)
  }

  /// Looks where all databases stand, beside the loop.
  func load(then: @escaping () -> Void) {
    let bound = NIOLoopBound(then, eventLoop: loop)
    let thread = DatabaseThread()
    thread.submit { [self] in
      source.databases.catalogue.load()
      loop.execute { bound.value() }
    }
    thread.stop()
  }
}
