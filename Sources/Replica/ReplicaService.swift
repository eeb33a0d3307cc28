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
  /// What exists once there is a database.
  private struct Serving: Sendable {
    var parts: ReplicaParts.Serving
    var listeners: ClientListeners?
    var addresses = ClientListeners.Addresses()
    var shipAddress: SocketAddress?
    var database: ReplicaDatabase { parts.database }

    /// Accepts nobody any more, and ends what runs beside the applier.
    func stop() async {
      await listeners?.stop()
      await parts.shipServer?.stop()
      parts.quiesce()
      await parts.checkpoints.stop()
    }
  }

  private struct Lifecycle {
    /// Starts the listeners once the first copy is complete.
    var start: Task<Void, Never>?
    var isStopped = false
  }

  private let configuration: ReplicaConfiguration
  private let applierGroup: MultiThreadedEventLoopGroup
  /// Nil without a listener: a replica inside of another program then has no threads for clients.
  private let clientGroup: MultiThreadedEventLoopGroup?
  private let parts: ReplicaParts
  private let serving = Mutex<Serving?>(nil)
  private let ready: EventLoopPromise<Void>
  private let lifecycle = Mutex(Lifecycle())
  /// Why it cannot go on.
  private let failures = AsyncStream.makeStream(of: (any Error).self)
  private let started = monotonicNanoseconds()

  private var upstream: Upstream { parts.upstream }

  /// Opens the replica's file, if there is one, serves it, and begins to follow.
  ///
  /// - Throws: `ReplicaDatabase.Failure.foreignFile` for a file that is not a replica's, which
  ///   stays as it is; `ListenFailure` for an address that cannot be used. Then nothing is left
  ///   running.
  public init(configuration: ReplicaConfiguration) async throws {
    precondition(!configuration.upstreams.isEmpty, "a replica needs an upstream")
    self.configuration = configuration
    if configuration.resets { try ReplicaFiles.remove(configuration.databasePath) }
    applierGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let options = configuration.options
    clientGroup = (options.listen ?? options.http).map { _ in
      MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    }
    let loop = applierGroup.next()
    ready = loop.makePromise(of: Void.self)
    do {
      parts = try await loop.submit {
        try ReplicaParts(configuration: configuration, loop: loop)
      }.get()
    } catch {
      ready.succeed()
      try? await applierGroup.shutdownGracefully()
      try? await clientGroup?.shutdownGracefully()
      throw error
    }
    // What is here can be read at once, unless it was not ours, or may be less than was served.
    do {
      let existing = try await loop.submit { [parts] in parts.database }.get()
      if let existing, !existing.awaitsUpstream { try await startServing(existing) }
      try await loop.submit { [self] in
        try parts.follow { [self] database in
          lifecycle.withLock { lifecycle in
            guard !lifecycle.isStopped else { return }
            // The listeners start beside the applier, which goes on meanwhile.
            lifecycle.start = Task { await self.serveOrEnd(database) }
          }
        }
      }.get()
    } catch {
      await stop()
      throw error
    }
  }

  /// What sessions of clients work with; nil before the first copy is complete.
  package var context: NodeContext? { serving.withLock { $0?.parts.context } }

  /// Returns once the first read can be answered.
  public func waitUntilReady() async throws { try await ready.futureResult.get() }

  /// The same as `startServing`, when nobody is there any more who could be told of a failure.
  private func serveOrEnd(_ database: ReplicaDatabase) async {
    do {
      try await startServing(database)
    } catch {
      configuration.options.logger.critical("cannot serve", metadata: ["error": "\(error)"])
      ready.fail(error)
      failures.continuation.yield(error)
    }
  }

  private func startServing(_ database: ReplicaDatabase) async throws {
    let options = configuration.options
    let status = StatusSource(role: .replica, tracker: database.tracker)
    status.set { [weak self] in
      guard let self, self.serving.withLock({ $0 != nil }) else { return nil }
      return self.status
    }
    let made = parts.makeServing(
      database, status: { status.make() },
      pages: { [weak self] in self?.serving.withLock { $0 != nil } ?? false })
    var serving = Serving(
      parts: made,
      listeners: clientGroup.map {
        ClientListeners(node: made.context, options: options, group: $0)
      })
    do {
      serving.addresses = try await serving.listeners?.start() ?? ClientListeners.Addresses()
      // Before followers may come: those who are there are sent away when pages are found damaged.
      try await upstream.loop.submit { [parts] in
        try parts.recover(database)
        parts.attach(made)
      }.get()
      made.begin()
      serving.shipAddress =
        try await options.ship.asyncMap {
          try await made.shipServer?.start(host: $0.host, port: $0.port)
        } ?? nil
    } catch {
      await serving.stop()
      throw error
    }
    let complete = serving
    self.serving.withLock { $0 = complete }
    ready.succeed()
  }

  // MARK: Stopping

  /// Serves until the service group shuts down.
  ///
  /// - Throws: when what was copied cannot be served: `ListenFailure` for an address that cannot be
  ///   used.
  public func run() async throws {
    let failure = await cancelWhenGracefulShutdown { [failures] in
      await failures.stream.first { _ in true }
    }
    await stop()
    if let failure { throw failure }
  }

  public func stop() async {
    let start: Task<Void, Never>?? = lifecycle.withLock { lifecycle in
      guard !lifecycle.isStopped else { return nil }
      lifecycle.isStopped = true
      return .some(lifecycle.start)
    }
    guard let start else { return }
    // What starts at this moment is stopped with the rest.
    await start?.value
    await serving.withLock { $0 }?.stop()
    try? await upstream.loop.submit { [parts] in parts.close() }.get()
    self.serving.withLock { $0 = nil }
    ready.fail(ThreadStopped())
    try? await clientGroup?.shutdownGracefully()
    try? await applierGroup.shutdownGracefully()
  }

  /// Checks all pages now, at full speed, and has damaged ones sent again.
  ///
  /// - Throws: before the first copy is complete, or when this service stops.
  public func scrub() async throws -> Scrubber.Report {
    guard let scrubber = serving.withLock({ $0?.parts.scrubber }) else { throw ThreadStopped() }
    return try await withCheckedThrowingContinuation { continuation in
      scrubber.run { continuation.resume(with: $0) }
    }
  }

  // MARK: Status

  public var listenAddress: SocketAddress? { serving.withLock { $0?.addresses.line } }
  public var httpAddress: SocketAddress? { serving.withLock { $0?.addresses.http } }
  public var shipAddress: SocketAddress? { serving.withLock { $0?.shipAddress } }

  /// Where this replica stands; nil before the first copy is complete.
  public var position: Position? { serving.withLock { $0?.database.tracker.position } }

  /// How far the first copy or a catch-up is; nil when there is none.
  public var copyProgress: NodeStatus.CopyProgress? { upstream.status.progress }

  /// The age of the last contact with the primary.
  public var contactMilliseconds: UInt64? {
    upstream.status.contactMilliseconds(now: monotonicNanoseconds())
  }

  /// How the node is doing.
  public var status: NodeStatus {
    let serving = serving.withLock { $0 }
    let above = upstream.status
    let position = serving?.database.tracker.position ?? .none
    var status = NodeStatus(
      role: .replica, version: SoftwareVersion.current, name: configuration.options.name,
      position: position, listen: serving?.addresses.line.map(describe) ?? "off",
      sqliteVersion: SQLiteLibrary.version)
    status.uptimeMilliseconds = (monotonicNanoseconds() - started) / 1_000_000
    status.upstream = above.report(position, contactMilliseconds: contactMilliseconds)
    guard let serving else { return status }
    status.pageSize = serving.database.pageSize.bytes
    status.pageCount = serving.database.map.live.pageCount
    status.http = serving.addresses.http.map(describe)
    status.ship = serving.shipAddress.map(describe)
    status.add(serving.parts.shipServer, head: position.txid)
    status.add(parts.ring)
    status.add(serving.database.logWatch, pageSize: status.pageSize)
    status.checkpoints = serving.parts.checkpoints.record.status
    status.scrub = serving.parts.scrubber.status
    status.diverged = DivergedCopies.names(of: serving.database.path)
    status.damage = parts.health.damage
    status.connections = serving.listeners?.connectionCount ?? 0
    return status
  }
}
