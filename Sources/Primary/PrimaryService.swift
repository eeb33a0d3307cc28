// A primary: opens the database, and puts the writer, the capture of foreign commits, the
// checkpoints, the ship server and the clients' listener around it.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Serving
import Store
import Synchronization
import WALShip

/// What a primary is configured with.
public struct PrimaryConfiguration: Sendable {
  /// The database file; it is adopted as it is, or made.
  public var databasePath: String
  public var options: NodeOptions
  public init(databasePath: String, options: NodeOptions = NodeOptions()) {
    self.databasePath = databasePath
    self.options = options
  }
}

/// A running primary. It can be a part of any Swift server.
public final class PrimaryService: Service, Sendable {
  /// Where the node listens, once it has started.
  public let listenAddress: SocketAddress?
  public let shipAddress: SocketAddress?
  /// What the start did to the database, for people.
  public let notes: [String]
  public let tracker: PositionTracker

  private let configuration: PrimaryConfiguration
  private let database: PrimaryDatabase
  private let writer: Writer
  private let writerThread: DatabaseThread
  private let reads: ForwardedReads
  private let watcher: LogWatcher
  private let checkpoints: CheckpointPolicy
  private let ring: TransactionRing
  private let pages: PageSource
  private let scrubber: Scrubber
  private let health: NodeHealth
  private let shipServer: ShipServer?
  private let lineServer: LineServer?
  private let group: MultiThreadedEventLoopGroup
  private let statusSource: StatusSource
  private let isStopped = Atomic<Bool>(false)

  /// Opens the database and starts to serve.
  ///
  /// - Throws: `PrimaryDatabase.Failure`, `SQLiteError`, `DiskError` or an error of the network;
  ///   then nothing is left running, and the file is as it was.
  public init(configuration: PrimaryConfiguration) async throws {
    self.configuration = configuration
    let options = configuration.options
    let logger = options.logger
    let path = configuration.databasePath
    let thread = DatabaseThread()
    let group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    writerThread = thread
    self.group = group
    do {
      let limits = CheckpointLimits(framesMin: options.checkpointFrames)
      let database = try await thread.run {
        try PrimaryDatabase(path: path, logFileFramesMax: limits.framesMax)
      }
      let ring = TransactionRing()
      let pages = PageSource(path: path, map: database.map, tracker: database.tracker)
      let reads = try ForwardedReads(
        path: path, tracker: database.tracker, watch: database.logWatch, limits: options.limits)
      let writer = try await thread.run {
        try Writer(
          database: database, thread: thread, reads: reads, limits: options.limits,
          timers: group.next(), logger: logger)
      }
      let checkpoints = CheckpointPolicy(
        database: database, writerThread: thread, timers: group.next(),
        record: CheckpointRecord(limits: limits, logger: logger))
      let health = NodeHealth()
      let halt = PrimaryHalt(database: database, health: health, writer: writer, logger: logger)
      let scrubber = Scrubber(
        path: path, map: database.map, tracker: database.tracker, options: options.scrub,
        timers: group.next(), canRepair: false
      ) { halt.found($0) }
      let shipServer = options.ship.map { _ in
        ShipServer(
          source: ShipSource(
            role: .primary, node: .starting(name: options.name), tracker: database.tracker,
            map: database.map,
            ring: ring, pages: pages, primary: writer, lineage: { [] },
            contactMilliseconds: { 0 }, doubt: { scrubber.request() },
            superseded: { halt.superseded(by: $0) },
            overtaken: { writer.overtaken(by: $0) }),
          secret: options.secret, logger: logger)
      }
      halt.shipServer = shipServer
      try await thread.run {
        database.onCapture = { transaction in
          ring.append(
            transaction.position.txid, body: transaction.body, pages: transaction.pages,
            rawBytes: transaction.rawBytes)
        }
        database.onAdvance = {
          shipServer?.notify()
          checkpoints.consider()
        }
      }
      let status = StatusSource(role: .primary, tracker: database.tracker)
      let context = NodeContext(
        role: .primary, databasePath: path, tracker: database.tracker, logWatch: database.logWatch,
        primary: writer, limits: options.limits, health: health, scrubber: scrubber,
        status: { status.make() }, pages: { pages }, contactMilliseconds: { 0 }, logger: logger)
      let lineServer = options.listen.map { _ in LineServer(node: context, group: group) }
      shipAddress =
        try await options.ship.asyncMap { address in
          try await shipServer?.start(host: address.host, port: address.port)
        } ?? nil
      listenAddress =
        try await options.listen.asyncMap { address in
          try await lineServer?.start(host: address.host, port: address.port)
        } ?? nil
      watcher = try LogWatcher(
        databasePath: path, watch: database.logWatch, tracker: database.tracker
      ) { writer.captureForeign() }
      self.database = database
      self.writer = writer
      self.reads = reads
      self.checkpoints = checkpoints
      self.ring = ring
      self.pages = pages
      self.scrubber = scrubber
      self.health = health
      self.shipServer = shipServer
      self.lineServer = lineServer
      tracker = database.tracker
      notes = database.notes
      statusSource = status
    } catch {
      thread.stop()
      try? await group.shutdownGracefully()
      throw error
    }
    statusSource.set { [weak self] in self?.status }
    watcher.start()
    writer.captureForeign()
    scrubber.start()
  }

  /// Serves until the service group shuts down.
  public func run() async throws {
    try? await gracefulShutdown()
    await stop()
  }

  /// Stops accepting, answers what was begun, copies the WAL into the file, and closes it.
  public func stop() async {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    await lineServer?.stop()
    await shipServer?.stop()
    watcher.stop()
    scrubber.stop()
    await checkpoints.stop()
    reads.stop()
    pages.stop()
    try? await writerThread.run { [checkpoints, database] in
      checkpoints.finish()
      // This holds the database, and so its checkpoint lock, which another run may want.
      database.onAdvance = {}
    }
    writerThread.stop()
    try? await group.shutdownGracefully()
  }

  private let started = monotonicNanoseconds()

  /// How the node is doing.
  public var status: NodeStatus {
    let position = tracker.position
    var status = NodeStatus(
      role: .primary, version: SoftwareVersion.current, name: configuration.options.name,
      position: position, listen: listenAddress.map(describe) ?? "off",
      sqliteVersion: SQLiteLibrary.version)
    status.pageSize = database.pageSize.bytes
    status.pageCount = database.map.live.pageCount
    status.uptimeMilliseconds = (monotonicNanoseconds() - started) / 1_000_000
    status.ship = shipAddress.map(describe)
    status.add(shipServer, head: position.txid)
    status.add(ring)
    status.add(database.logWatch, pageSize: database.pageSize.bytes)
    status.checkpoints = checkpoints.record.status
    status.scrub = scrubber.status
    status.diverged = DivergedCopies.names(of: database.path)
    status.damage = health.damage
    status.connections = lineServer?.connectionCount ?? 0
    return status
  }
}
