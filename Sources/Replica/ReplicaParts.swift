// The parts of a replica and how they hang together, without sockets and without the threads that
// wait for them: `ReplicaService` adds those, and so does a simulation, in its own way.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// A replica that follows, and what serves its database once there is one. It is used on the
/// applier's loop alone, apart from what is marked otherwise.
package final class ReplicaParts: @unchecked Sendable {  // see the comments
  /// What exists once there is a database. May be used from any thread.
  package struct Serving: Sendable {
    package let database: ReplicaDatabase
    package let context: NodeContext
    package let shipServer: ShipServer?
    let checkpoints: ReplicaCheckpoints
    let pages: PageSource?
    let scrubber: Scrubber
  }

  let upstream: Upstream
  let ring: TransactionRing
  package let health = NodeHealth()
  /// May be used from any thread.
  private let node: NodeIdentity
  private let options: NodeOptions
  private let trunk: Trunk?
  private let name: String
  private let isRecovered = Atomic<Bool>(false)
  /// Who passes on what is here.
  private var shipServer: ShipServer?
  private var logger: Logger { options.logger }

  /// Opens what is at the path of the configuration; nothing is followed yet.
  ///
  /// - Parameters:
  ///   - loop: the applier's, on which this must be called.
  ///   - link: how the upstream is reached; nil for TCP.
  ///   - trunk: a link with many databases, in place of one for this alone.
  ///   - name: what clients know the database by.
  /// - Throws: `ReplicaDatabase.Failure`, `DiskError`, `SQLiteError`.
  package init(
    configuration: ReplicaConfiguration, loop: any EventLoop, link: UpstreamLink? = nil,
    trunk: Trunk? = nil, name: String = NodeContext.databaseNameDefault
  ) throws {
    options = configuration.options
    self.trunk = trunk
    self.name = name
    let path = configuration.databasePath
    let header = try ReplicaDatabase.inspect(path)
    try ReplicaFiles.completeRename(path)
    ring =
      options.ship == nil
      ? TransactionRing(bytesMax: 0)
      : trunk == nil ? TransactionRing() : TransactionRing(bytesMax: Self.ringBytesMax)
    node = trunk?.node ?? NodeIdentity.starting(name: options.name)
    let content = try ReplicaContent(
      path: path, database: try header.map { try ReplicaDatabase(path: path, header: $0) },
      ring: ring, loop: loop, logger: options.logger)
    upstream = Upstream(
      loop: loop, content: content, addresses: configuration.upstreams, node: node,
      secret: options.secret, logger: options.logger, name: name,
      way: trunk.map { .trunk($0) } ?? .connection(link ?? connectByTCP(options.shipTransport)))
  }

  /// The last commits that are kept in memory for the followers of one of many databases.
  private static let ringBytesMax = 4 << 20

  /// The database, once there is one.
  package var database: ReplicaDatabase? { upstream.content.database }

  /// What the link to the upstream is doing, in a few words.
  package var upstreamSummary: String {
    let status = upstream.status
    return "\(status.state)\(status.lastError.map { " (\($0))" } ?? "")"
  }

  /// Begins to follow.
  ///
  /// - Parameter serve: called on the loop when what is here may be served: the first copy is
  ///   complete, or a database that had to wait for the upstream holds what that has. Not called for
  ///   a database that can be served at once.
  ///
  /// On a link with many databases it is followed only once somebody wakes it.
  package func follow(serve: @escaping (ReplicaDatabase) -> Void) throws {
    if let existing = database, existing.awaitsUpstream {
      let reason =
        existing.isForeign
        ? "another program wrote to the replica's file: it is compared with the upstream before it is served"
        : "transactions that were served may be gone: the upstream must be reached before reads are"
      logger.warning("\(reason)")
      try recover(existing)
      upstream.content.onCaughtUp = serve
    }
    upstream.content.onDoubt = { [self] count in
      doubt("\(count) pages of this replica are damaged")
    }
    upstream.content.onDatabase = { [self] database in
      isRecovered.store(true, ordering: .releasing)
      serve(database)
    }
    if trunk == nil { upstream.connect() }
  }

  /// Brings the page map up to date, before anything is applied or shipped onwards.
  package func recover(_ database: ReplicaDatabase) throws {
    if !isRecovered.exchange(true, ordering: .acquiringAndReleasing) {
      if try database.recoverMap() { logger.info("the page map was made anew from the pages") }
      upstream.content.refresh()
    }
    if database.isDoubtful {
      doubt("pages of this replica are not what it noted of them, and must be compared")
    }
  }

  /// Nothing is answered from these pages, or passed on, until the upstream has sent what is wrong.
  private func doubt(_ damage: String) {
    health.set(damage)
    shipServer?.turnAway(ShipRefusal(.notReady, damage))
    upstream.content.onRepaired = { [health] in health.set(nil) }
  }

  /// Makes what serves a database. May be called on any thread.
  ///
  /// - Parameters:
  ///   - status: how the node is doing, for its clients.
  ///   - pages: where copies are read from; nil before the node is ready for them.
  ///   - shipLoop: where followers are served; nil for a loop of its own.
  package func makeServing(
    _ database: ReplicaDatabase, status: @escaping @Sendable () -> NodeStatus,
    pages isReady: @escaping @Sendable () -> Bool, shipLoop: (any EventLoop)? = nil
  ) -> Serving {
    let pages = (options.listen ?? options.http ?? options.ship).map { _ in
      PageSource(path: database.path, map: database.map, tracker: database.tracker)
    }
    let checkpoints = ReplicaCheckpoints(
      database: database, loop: upstream.loop, framesMin: options.checkpointFrames, logger: logger)
    let (upstream, trunk) = (upstream, trunk)
    let scrubber = makeScrubber(database)
    let contact: @Sendable () -> UInt64? = {
      if let trunk { return trunk.contactMilliseconds }
      return upstream.status.contactMilliseconds(now: monotonicNanoseconds())
    }
    let shipServer = options.ship.flatMap { _ in pages }.map { pages in
      ShipServer(
        source: ShipSource(
          role: .replica, node: node, tracker: database.tracker, map: database.map, ring: ring,
          pages: pages, primary: upstream,
          lineage: { trunk?.lineage ?? upstream.status.lineage },
          contactMilliseconds: { contact() ?? ShipHeartbeat.noContactMilliseconds },
          doubt: { scrubber.request() }, health: health),
        secret: options.secret, transport: options.shipTransport,
        asksForCredentials: options.verifier != nil, logger: logger, loop: shipLoop)
    }
    let context = NodeContext(
      role: .replica, databasePath: database.path, databaseName: name, tracker: database.tracker,
      logWatch: database.logWatch,
      primary: options.verifier == nil ? AnonymousAccess(upstream) : upstream,
      limits: options.limits, health: health, scrubber: scrubber, status: status,
      pages: { isReady() ? pages : nil }, contactMilliseconds: contact,
      logger: logger)
    return Serving(
      database: database, context: context, shipServer: shipServer, checkpoints: checkpoints,
      pages: pages, scrubber: scrubber)
  }

  private func makeScrubber(_ database: ReplicaDatabase) -> Scrubber {
    let (upstream, logger) = (upstream, logger)
    return Scrubber(
      path: database.path, map: database.map, tracker: database.tracker, options: options.scrub,
      timers: upstream.loop, canRepair: true
    ) { [weak self] wrong in
      let pages = wrong.prefix(8).map { "\($0.pgno)" }.joined(separator: ", ")
      logger.error(
        "pages are damaged: they are fetched again, and nothing is served from this file meanwhile",
        metadata: ["count": "\(wrong.count)", "pages": "\(pages)"])
      upstream.loop.execute { [weak self] in
        self?.doubt("\(wrong.count) pages of this replica are damaged")
        upstream.repair(wrong)
      }
    }
  }

  /// From now on, what is applied is told to those whom `serving` serves.
  ///
  /// - Parameter published: told of it, too.
  package func attach(_ serving: Serving, published: @escaping () -> Void = {}) {
    shipServer = serving.shipServer
    upstream.onPublish = {
      serving.shipServer?.notify()
      serving.checkpoints.consider()
      published()
    }
    // On a link with many databases it is that of the link.
    if trunk == nil { upstream.onLineage = { serving.shipServer?.lineageChanged() } }
  }

  /// Ends the following, in good order.
  package func close() {
    upstream.stop()
    // These hold the service, and so the write lock of its database, which another run may want.
    upstream.onPublish = {}
    upstream.onLineage = {}
    upstream.content.onDatabase = { _ in }
    upstream.content.onCaughtUp = { _ in }
    upstream.content.onDoubt = { _ in }
    shipServer = nil
    upstream.content.close()
  }
}

extension ReplicaParts.Serving {
  /// Begins to look for damage.
  package func begin() { scrubber.start() }

  /// Lets what runs beside the applier come to its end.
  package func quiesce() {
    scrubber.stop()
    pages?.stop()
  }
}
