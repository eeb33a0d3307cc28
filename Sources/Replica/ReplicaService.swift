// A replica: keeps an ordinary SQLite file equal to its upstream's, serves reads from it, and takes
// writes to the primary.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Serving
import Store
import Synchronization
import WALShip

/// What a replica is configured with.
public struct ReplicaConfiguration: Sendable {
  /// The replica's file. It is made when it is not there; a file that is not a replica's is
  /// refused.
  public var databasePath: String
  /// Nodes to follow: the first that can be reached is taken.
  public var upstreams: [NodeAddress]
  /// Throws away what is at `databasePath` first.
  public var resets = false
  public var options: NodeOptions

  public init(
    databasePath: String, upstreams: [NodeAddress], options: NodeOptions = NodeOptions()
  ) {
    self.databasePath = databasePath
    self.upstreams = upstreams
    self.options = options
  }
}

/// A running replica. It can be a part of any Swift server, which then reads the file with any
/// SQLite library.
public final class ReplicaService: Service, Sendable {
  /// The parts that exist once there is a database.
  private struct Serving: Sendable {
    var database: ReplicaDatabase
    var shipServer: ShipServer?
    var lineServer: LineServer?
    var checkpoints: ReplicaCheckpoints
    var pages: PageSource?
    var scrubber: Scrubber
    var listenAddress: SocketAddress?
    var shipAddress: SocketAddress?
  }

  private let configuration: ReplicaConfiguration
  private let applierGroup: MultiThreadedEventLoopGroup
  /// Nil without a listener: a replica inside of another program then has no threads for clients.
  private let clientGroup: MultiThreadedEventLoopGroup?
  private let upstream: Upstream
  private let ring: TransactionRing
  private let node: NodeIdentity
  private let serving = Mutex<Serving?>(nil)
  private let ready: EventLoopPromise<Void>
  private let health = NodeHealth()
  private let isStopped = Atomic<Bool>(false)
  private let isRecovered = Atomic<Bool>(false)
  private let started = monotonicNanoseconds()

  private var logger: Logger { configuration.options.logger }

  /// Opens the replica's file, if there is one, serves it, and begins to follow.
  ///
  /// - Throws: `ReplicaDatabase.Failure.foreignFile` for a file that is not a replica's, which
  ///   stays as it is.
  public init(configuration: ReplicaConfiguration) async throws {
    precondition(!configuration.upstreams.isEmpty, "a replica needs an upstream")
    self.configuration = configuration
    let options = configuration.options
    let path = configuration.databasePath
    let logger = options.logger
    if configuration.resets { try ReplicaFiles.remove(path) }
    let header = try ReplicaDatabase.inspect(path)
    try ReplicaFiles.completeRename(path)

    applierGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    clientGroup = options.listen.map { _ in
      MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    }
    let loop = applierGroup.next()
    ready = loop.makePromise(of: Void.self)
    ring = options.ship == nil ? TransactionRing(bytesMax: 0) : TransactionRing()
    node = NodeIdentity.starting(name: options.name)
    let (ring, node) = (ring, node)
    do {
      upstream = try await loop.submit {
        let database = try header.map { try ReplicaDatabase(path: path, header: $0) }
        let content = try ReplicaContent(
          path: path, database: database, ring: ring, loop: loop, logger: logger)
        return Upstream(
          loop: loop, content: content,
          addresses: configuration.upstreams.map { ($0.host, $0.port) }, node: node,
          secret: options.secret, logger: logger)
      }.get()
    } catch {
      ready.succeed()
      try? await applierGroup.shutdownGracefully()
      try? await clientGroup?.shutdownGracefully()
      throw error
    }
    try await begin(loop)
  }

  private func begin(_ loop: any EventLoop) async throws {
    let existing = try await loop.submit { [self] () -> ReplicaDatabase? in
      upstream.content.onDatabase = { [self] database in
        // The listeners start beside the applier, which goes on meanwhile.
        isRecovered.store(true, ordering: .releasing)
        Task { await self.startServing(database) }
      }
      return upstream.content.database
    }.get()
    // What is here can be read at once, unless it was not ours, or may be less than was served.
    if let existing, !existing.awaitsUpstream { await startServing(existing) }
    try await loop.submit { [self] in
      if let existing, existing.awaitsUpstream {
        let reason =
          existing.isForeign
          ? "another program wrote to the replica's file: it is compared with the upstream before it is served"
          : "transactions that were served may be gone: the upstream must be reached before reads are"
        logger.warning("\(reason)")
        isRecovered.store(true, ordering: .releasing)
        _ = try existing.recoverMap()
        upstream.content.refresh()
        upstream.content.onCaughtUp = { [self] database in
          Task { await self.startServing(database) }
        }
      }
      upstream.connect()
    }.get()
  }

  /// Returns once the first read can be answered.
  public func waitUntilReady() async throws { try await ready.futureResult.get() }

  private func startServing(_ database: ReplicaDatabase) async {
    do {
      let serving = try await makeServing(database)
      self.serving.withLock { $0 = serving }
      try await upstream.loop.submit { [self] in
        upstream.onPublish = {
          serving.shipServer?.notify()
          serving.checkpoints.consider()
        }
        upstream.onLineage = { serving.shipServer?.lineageChanged() }
      }.get()
      ready.succeed()
    } catch {
      logger.critical("cannot serve", metadata: ["error": "\(error)"])
      ready.fail(error)
    }
  }

  /// Brings the page map up to date, before anything is applied or shipped onwards.
  private func recover(_ database: ReplicaDatabase) async throws {
    try await upstream.loop.submit { [self] in
      guard !isRecovered.exchange(true, ordering: .acquiringAndReleasing) else { return }
      if try database.recoverMap() { logger.info("the page map was made anew from the pages") }
      upstream.content.refresh()
    }.get()
  }

  private func makeServing(_ database: ReplicaDatabase) async throws -> Serving {
    let options = configuration.options
    let pages = (options.listen ?? options.ship).map { _ in
      PageSource(path: database.path, map: database.map, tracker: database.tracker)
    }
    let checkpoints = ReplicaCheckpoints(
      database: database, loop: upstream.loop, framesMin: options.checkpointFrames, logger: logger)
    let upstream = upstream
    let scrubber = makeScrubber(database)
    let shipServer = options.ship.flatMap { _ in pages }.map { pages in
      ShipServer(
        source: ShipSource(
          role: .replica, node: node, tracker: database.tracker, map: database.map, ring: ring,
          pages: pages,
          primary: upstream, lineage: { upstream.status.lineage },
          contactMilliseconds: { [weak self] in
            self?.contactMilliseconds ?? ShipHeartbeat.noContactMilliseconds
          }, doubt: { scrubber.request() }),
        secret: options.secret, logger: logger)
    }
    let status = StatusSource(role: .replica, tracker: database.tracker)
    status.set { [weak self] in
      guard let self, self.serving.withLock({ $0 != nil }) else { return nil }
      return self.status
    }
    let context = NodeContext(
      role: .replica, databasePath: database.path, tracker: database.tracker,
      logWatch: database.logWatch, primary: upstream, limits: options.limits, health: health,
      scrubber: scrubber, status: { status.make() },
      pages: { [weak self] in self?.serving.withLock { $0?.pages } },
      contactMilliseconds: { [weak self] in self?.contactMilliseconds }, logger: logger)
    let lineServer = clientGroup.map { LineServer(node: context, group: $0) }
    let listenAddress =
      try await options.listen.asyncMap {
        try await lineServer?.start(host: $0.host, port: $0.port)
      } ?? nil
    try await recover(database)
    scrubber.start()
    let shipAddress =
      try await options.ship.asyncMap { try await shipServer?.start(host: $0.host, port: $0.port) }
      ?? nil
    return Serving(
      database: database, shipServer: shipServer, lineServer: lineServer, checkpoints: checkpoints,
      pages: pages, scrubber: scrubber, listenAddress: listenAddress, shipAddress: shipAddress)
  }

  private func makeScrubber(_ database: ReplicaDatabase) -> Scrubber {
    let (health, upstream, logger) = (health, upstream, logger)
    return Scrubber(
      path: database.path, map: database.map, tracker: database.tracker,
      options: configuration.options.scrub, timers: upstream.loop, canRepair: true
    ) { wrong in
      let pages = wrong.prefix(8).map { "\($0.pgno)" }.joined(separator: ", ")
      logger.error(
        "pages are damaged: they are fetched again, and nothing is served from this file meanwhile",
        metadata: ["count": "\(wrong.count)", "pages": "\(pages)"])
      upstream.loop.execute {
        health.set("\(wrong.count) pages of this replica are damaged")
        upstream.content.onRepaired = { health.set(nil) }
        upstream.repair(wrong)
      }
    }
  }

  // MARK: Stopping

  public func run() async throws {
    try? await gracefulShutdown()
    await stop()
  }

  public func stop() async {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let serving = serving.withLock { $0 }
    await serving?.lineServer?.stop()
    await serving?.shipServer?.stop()
    serving?.scrubber.stop()
    await serving?.checkpoints.stop()
    serving?.pages?.stop()
    try? await upstream.loop.submit { [upstream] in
      upstream.stop()
      // These hold the service, and so the write lock of its database, which another run may want.
      upstream.onPublish = {}
      upstream.onLineage = {}
      upstream.content.onDatabase = { _ in }
      upstream.content.onCaughtUp = { _ in }
      upstream.content.close()
    }.get()
    self.serving.withLock { $0 = nil }
    ready.fail(ThreadStopped())
    try? await clientGroup?.shutdownGracefully()
    try? await applierGroup.shutdownGracefully()
  }

  /// Checks all pages now, at full speed, and has damaged ones sent again.
  ///
  /// - Throws: before the first copy is complete, or when this service stops.
  public func scrub() async throws -> Scrubber.Report {
    guard let scrubber = serving.withLock({ $0?.scrubber }) else { throw ThreadStopped() }
    return try await withCheckedThrowingContinuation { continuation in
      scrubber.run { continuation.resume(with: $0) }
    }
  }

  // MARK: Status

  public var listenAddress: SocketAddress? { serving.withLock { $0?.listenAddress } }
  public var shipAddress: SocketAddress? { serving.withLock { $0?.shipAddress } }

  /// Where this replica stands; nil before the first copy is complete.
  public var position: Position? { serving.withLock { $0?.database.tracker.position } }

  /// How far the first copy or a catch-up is; nil when there is none.
  public var copyProgress: NodeStatus.CopyProgress? { upstream.status.progress }

  /// The age of the last contact with the primary.
  public var contactMilliseconds: UInt64? {
    let status = upstream.status
    guard let heard = status.heardNanoseconds,
      status.contactMilliseconds < ShipHeartbeat.noContactMilliseconds
    else { return nil }
    let now = monotonicNanoseconds()
    return (now - min(now, heard)) / 1_000_000 + status.contactMilliseconds
  }

  /// How the node is doing.
  public var status: NodeStatus {
    let serving = serving.withLock { $0 }
    let above = upstream.status
    let position = serving?.database.tracker.position ?? .none
    var status = NodeStatus(
      role: .replica, version: SoftwareVersion.current, name: configuration.options.name,
      position: position, listen: serving?.listenAddress.map(describe) ?? "off",
      sqliteVersion: SQLiteLibrary.version)
    status.uptimeMilliseconds = (monotonicNanoseconds() - started) / 1_000_000
    var upstream = NodeStatus.Upstream(
      address: above.address, state: NodeStatus.Upstream.State(rawValue: above.state) ?? .catchingUp
    )
    let now = monotonicNanoseconds()
    upstream.lagTransactions =
      above.head.rawValue - min(above.head.rawValue, position.txid.rawValue)
    upstream.lagMilliseconds =
      above.behindSinceNanoseconds.map { (now - min(now, $0)) / 1_000_000 } ?? 0
    upstream.contactMilliseconds = contactMilliseconds
    upstream.progress = above.progress
    upstream.lastError = above.lastError
    status.upstream = upstream
    guard let serving else { return status }
    status.pageSize = serving.database.pageSize.bytes
    status.pageCount = serving.database.map.live.pageCount
    status.ship = serving.shipAddress.map(describe)
    status.add(serving.shipServer, head: position.txid)
    status.add(ring)
    status.add(serving.database.logWatch, pageSize: status.pageSize)
    status.checkpoints = serving.checkpoints.record.status
    status.scrub = serving.scrubber.status
    status.diverged = DivergedCopies.names(of: serving.database.path)
    status.damage = health.damage
    status.connections = serving.lineServer?.connectionCount ?? 0
    return status
  }
}
