// A primary of many databases: the folder that they lie in, and the clients' listeners in front of
// them. The primary of one database is `PrimaryService`.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Serving
import Store
import Synchronization
import WALShip

/// What a primary of many databases is configured with.
public struct PrimaryDataConfiguration: Sendable {
  /// The folder of the databases; it is made if need be.
  public var folderPath: String
  public var databases = OnDemandDatabases.Limits()
  public var options: NodeOptions
  public init(folderPath: String, options: NodeOptions = NodeOptions()) {
    self.folderPath = folderPath
    self.options = options
  }
}

/// A running primary of many databases. It can be a part of any Swift server.
public final class PrimaryDataService: Service, Sendable {
  public let listenAddress: SocketAddress?
  public let httpAddress: SocketAddress?
  public let shipAddress: SocketAddress?
  public let databases: OnDemandDatabases

  private let folder: DataFolder
  private let listeners: ClientListeners
  private let watcher: LogWatcher
  private let group: MultiThreadedEventLoopGroup
  private let shipGroup: MultiThreadedEventLoopGroup?
  private let trunk: TrunkServer?
  private let isStopped = Atomic<Bool>(false)

  /// Takes the folder and starts to serve. No database is opened yet.
  ///
  /// - Throws: `DataFolder.Failure`, `DiskError` or an error of the network; then nothing is left
  ///   running.
  public init(configuration: PrimaryDataConfiguration) async throws {
    let options = configuration.options
    var inner = options
    inner.listen = nil
    inner.http = nil
    let folder = try DataFolder(path: configuration.folderPath)
    self.folder = folder
    let identity = try Self.identity(of: folder)
    watcher = try LogWatcher()
    let group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    self.group = group
    let shipGroup = options.ship.map { _ in MultiThreadedEventLoopGroup(numberOfThreads: 1) }
    self.shipGroup = shipGroup
    let shipLoop = shipGroup?.next()
    let names = folder.names()
    let catalogue = DatabaseCatalogue(names: names, isComplete: true) {
      SavedPosition(of: folder.databasePath($0))?.position
    }
    let node = NodeIdentity.starting(name: options.name)
    let databases = OnDemandDatabases(
      keeper: PrimaryKeeper(
        folder: folder, options: inner, watcher: watcher, timers: group.next(),
        shipLoop: shipLoop, node: node, catalogue: catalogue),
      names: names, catalogue: catalogue, role: .primary, limits: configuration.databases,
      timers: group.next(), logger: options.logger)
    self.databases = databases
    trunk = shipLoop.map {
      TrunkServer(
        source: TrunkServer.Source(
          node: node, databases: databases, asksForCredentials: options.verifier != nil,
          identity: { identity }),
        secret: options.secret, transport: options.shipTransport, logger: options.logger, loop: $0)
    }
    listeners = ClientListeners(
      directory: databases, options: options, group: group,
      routes: DatabaseRoutes.all(databases, verifier: options.verifier))
    do {
      let trunk = trunk
      shipAddress =
        try await options.ship.asyncMap {
          try await trunk?.start(host: $0.host, port: $0.port)
        } ?? nil
      let addresses = try await listeners.start()
      listenAddress = addresses.line
      httpAddress = addresses.http
    } catch {
      await trunk?.stop()
      await databases.stop()
      try? await group.shutdownGracefully()
      try? await shipGroup?.shutdownGracefully()
      throw error
    }
    watcher.start()
  }

  /// What replicas know the folder by, drawn when it is first served.
  private static func identity(of folder: DataFolder) throws -> DatabaseID {
    if let identity = folder.identity { return identity }
    let drawn = DatabaseID.random()
    try folder.adopt(drawn)
    return drawn
  }

  /// Serves until the service group shuts down.
  public func run() async throws {
    try? await gracefulShutdown()
    await stop()
  }

  /// Stops accepting, answers what was begun, and closes the databases.
  public func stop() async {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    await listeners.stop()
    await trunk?.stop()
    await databases.stop()
    watcher.stop()
    folder.leave()
    try? await group.shutdownGracefully()
    try? await shipGroup?.shutdownGracefully()
  }
}
