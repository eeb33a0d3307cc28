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
  public let httpAddress: SocketAddress?
  public let shipAddress: SocketAddress?
  /// What the start did to the database, for people.
  public let notes: [String]
  public let tracker: PositionTracker

  private let configuration: PrimaryConfiguration
  private let parts: PrimaryParts
  private let watcher: LogWatcher
  private let listeners: ClientListeners
  private let group: MultiThreadedEventLoopGroup
  private let isStopped = Atomic<Bool>(false)

  /// Opens the database and starts to serve.
  ///
  /// - Throws: `PrimaryDatabase.Failure`, `SQLiteError`, `DiskError` or an error of the network;
  ///   then nothing is left running, and the file is as it was.
  public init(configuration: PrimaryConfiguration) async throws {
    self.configuration = configuration
    let options = configuration.options
    let path = configuration.databasePath
    let thread = DatabaseThread()
    let group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    self.group = group
    do {
      let parts = try await thread.run {
        let database = try PrimaryDatabase(
          path: path,
          logFileFramesMax: CheckpointLimits(framesMin: options.checkpointFrames).framesMax)
        return try PrimaryParts(
          database: database, options: options, writerThread: thread, timers: group.next())
      }
      let listeners = ClientListeners(node: parts.context, options: options, group: group)
      shipAddress =
        try await options.ship.asyncMap { address in
          try await parts.shipServer?.start(host: address.host, port: address.port)
        } ?? nil
      let addresses = try await listeners.start()
      listenAddress = addresses.line
      httpAddress = addresses.http
      watcher = try LogWatcher()
      _ = try watcher.add(
        databasePath: path, watch: parts.database.logWatch, tracker: parts.database.tracker
      ) { [weak parts] in parts?.captureForeign() }
      self.parts = parts
      self.listeners = listeners
      tracker = parts.database.tracker
      notes = parts.database.notes
    } catch {
      thread.stop()
      try? await group.shutdownGracefully()
      throw error
    }
    parts.status.set { [weak self] in self?.status }
    watcher.start()
    parts.begin()
  }

  /// Serves until the service group shuts down.
  public func run() async throws {
    try? await gracefulShutdown()
    await stop()
  }

  /// Stops accepting, answers what was begun, copies the WAL into the file, and closes it.
  public func stop() async {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    await listeners.stop()
    await parts.shipServer?.stop()
    watcher.stop()
    await parts.stop()
    try? await group.shutdownGracefully()
  }

  /// What sessions of clients work with.
  package var context: NodeContext { parts.context }

  private let started = monotonicNanoseconds()

  /// How the node is doing.
  public var status: NodeStatus {
    let position = tracker.position
    let database = parts.database
    var status = NodeStatus(
      role: .primary, version: SoftwareVersion.current, name: configuration.options.name,
      position: position, listen: listenAddress.map(describe) ?? "off",
      sqliteVersion: SQLiteLibrary.version)
    status.pageSize = database.pageSize.bytes
    status.pageCount = database.map.live.pageCount
    status.uptimeMilliseconds = (monotonicNanoseconds() - started) / 1_000_000
    status.http = httpAddress.map(describe)
    status.ship = shipAddress.map(describe)
    status.add(parts.shipServer, head: position.txid)
    status.add(parts.ring)
    status.add(database.logWatch, pageSize: database.pageSize.bytes)
    status.checkpoints = parts.checkpoints.record.status
    status.scrub = parts.scrubber.status
    status.diverged = DivergedCopies.names(of: database.path)
    status.damage = parts.health.damage
    status.connections = listeners.connectionCount
    return status
  }
}
