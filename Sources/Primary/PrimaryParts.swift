// The parts of a primary and how they hang together, without sockets and without the threads that
// wait for them: `PrimaryService` adds those, and so does a simulation, in its own way.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// Everything that a primary consists of once its database is open.
package final class PrimaryParts: Sendable {
  package let database: PrimaryDatabase
  package let context: NodeContext
  package let shipServer: ShipServer?
  package let ring: TransactionRing
  let scrubber: Scrubber
  let checkpoints: CheckpointPolicy
  let health: NodeHealth
  let status: StatusSource
  private let writer: Writer
  private let writerThread: DatabaseThread
  private let reads: ForwardedReads
  private let pushes: PushedPages
  private let pages: PageSource

  /// - Parameters:
  ///   - name: what clients know the database by.
  ///   - writerThread: where `database` was opened, and this must be called.
  ///   - timers: a loop for time limits.
  ///   - shipLoop: where followers are served; nil for a loop of its own.
  ///   - ring: keeps the last transactions for followers.
  ///   - node: who this node is to them; nil for an identity of its own.
  ///   - onAdvance: called once the positions of some commits are known.
  /// - Throws: `SQLiteError`.
  package init(
    database: PrimaryDatabase, name: String = NodeContext.databaseNameDefault,
    options: NodeOptions, writerThread thread: DatabaseThread,
    timers: any EventLoop, shipLoop: (any EventLoop)? = nil,
    ring: TransactionRing = TransactionRing(), node: NodeIdentity? = nil,
    onAdvance: @escaping @Sendable (Position) -> Void = { _ in }
  ) throws {
    let logger = options.logger
    let path = database.path
    let pages = PageSource(path: path, map: database.map, tracker: database.tracker)
    let reads = ForwardedReads(
      path: path, tracker: database.tracker, watch: database.logWatch, limits: options.limits)
    let pushes = PushedPages(path: path, map: database.map, tracker: database.tracker)
    let writer = try Writer(
      database: database, thread: thread, reads: reads, pushes: pushes, limits: options.limits,
      timers: timers, logger: logger)
    let checkpoints = CheckpointPolicy(
      database: database, writerThread: thread, timers: timers,
      record: CheckpointRecord(
        limits: CheckpointLimits(framesMin: options.checkpointFrames), logger: logger))
    let health = NodeHealth()
    let halt = PrimaryHalt(database: database, health: health, writer: writer, logger: logger)
    let scrubber = Scrubber(
      path: path, map: database.map, tracker: database.tracker, options: options.scrub,
      timers: timers, canRepair: false
    ) { halt.found($0) }
    let shipServer = options.ship.map { _ in
      ShipServer(
        source: ShipSource(
          role: .primary, node: node ?? .starting(name: options.name), tracker: database.tracker,
          map: database.map, ring: ring, pages: pages, primary: writer, lineage: { [] },
          contactMilliseconds: { 0 }, doubt: { scrubber.request() },
          superseded: { halt.superseded(by: $0) }, overtaken: { writer.overtaken(by: $0) }),
        secret: options.secret, transport: options.shipTransport,
        asksForCredentials: options.verifier != nil, logger: logger, loop: shipLoop)
    }
    halt.shipServer = shipServer
    database.onCapture = { transaction in
      ring.append(
        transaction.position.txid, body: transaction.body, pages: transaction.pages,
        rawBytes: transaction.rawBytes)
    }
    let tracker = database.tracker
    database.onAdvance = {
      shipServer?.notify()
      checkpoints.consider()
      onAdvance(tracker.position)
    }
    let status = StatusSource(role: .primary, tracker: database.tracker)
    context = NodeContext(
      role: .primary, databasePath: path, databaseName: name, tracker: database.tracker,
      logWatch: database.logWatch, primary: writer, limits: options.limits, health: health,
      scrubber: scrubber, status: { status.make() }, pages: { pages }, contactMilliseconds: { 0 },
      logger: logger)
    self.database = database
    self.ring = ring
    self.pages = pages
    self.reads = reads
    self.pushes = pushes
    self.writer = writer
    self.writerThread = thread
    self.checkpoints = checkpoints
    self.health = health
    self.scrubber = scrubber
    self.shipServer = shipServer
    self.status = status
  }

  /// Takes what other programs committed meanwhile, and begins to look for damage.
  package func begin() {
    captureForeign()
    scrubber.start()
  }

  /// There may be commits of other processes.
  package func captureForeign() { writer.captureForeign() }

  /// Ends what runs beside the writer. The listeners are closed by then.
  package func stop() async {
    quiesce()
    await checkpoints.stop()
    try? await writerThread.run { [self] in finish() }
    writerThread.stop()
  }

  /// Lets what runs beside the writer come to its end.
  package func quiesce() {
    scrubber.stop()
    reads.stop()
    pushes.stop()
    pages.stop()
  }

  /// On the writer's thread: copies the WAL into the file at an orderly stop.
  package func finish() {
    writer.closeConnections()
    checkpoints.finish()
    // This holds the database, and so its checkpoint lock, which another run may want.
    database.onAdvance = {}
  }
}

extension PrimaryParts {
  /// How the database is doing, without what is known of listeners.
  ///
  /// - Parameter began: when it was opened, by the monotonic clock.
  func plainStatus(_ name: String, _ began: UInt64) -> NodeStatus {
    var status = NodeStatus(
      role: .primary, version: SoftwareVersion.current, name: name,
      position: database.tracker.position, listen: "see the node",
      sqliteVersion: SQLiteLibrary.version)
    status.pageSize = database.pageSize.bytes
    status.pageCount = database.map.live.pageCount
    status.uptimeMilliseconds = (monotonicNanoseconds() - began) / 1_000_000
    status.add(database.logWatch, pageSize: database.pageSize.bytes)
    status.checkpoints = checkpoints.record.status
    status.scrub = scrubber.status
    status.diverged = DivergedCopies.names(of: database.path)
    status.damage = health.damage
    return status
  }
}
