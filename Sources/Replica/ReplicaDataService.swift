// A replica of many databases: the folder that they lie in, one link to the node above for all of
// them, and the clients' listeners in front. The replica of one database is `ReplicaService`.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Serving
import Store
import Synchronization
import WALShip

/// What a replica of many databases is configured with.
public struct ReplicaDataConfiguration: Sendable {
  /// The folder of the databases; it is made if need be.
  public var folderPath: String
  /// Nodes with many databases to follow: the first that can be reached is taken.
  public var upstreams: [NodeAddress]
  /// Which of their databases are taken.
  public var filter = DatabaseFilter.all
  public var databases = OnDemandDatabases.Limits()
  /// Throws away what is in the folder first.
  public var resets = false
  public var options: NodeOptions

  public init(
    folderPath: String, upstreams: [NodeAddress], options: NodeOptions = NodeOptions()
  ) {
    self.folderPath = folderPath
    self.upstreams = upstreams
    self.options = options
  }
}

/// A running replica of many databases. It can be a part of any Swift server.
public final class ReplicaDataService: Service, Sendable {
  public let listenAddress: SocketAddress?
  public let httpAddress: SocketAddress?
  public let shipAddress: SocketAddress?
  public let databases: OnDemandDatabases

  private let folder: DataFolder
  private let listeners: ClientListeners
  private let group: MultiThreadedEventLoopGroup
  private let linkGroup: MultiThreadedEventLoopGroup
  private let trunk: Trunk
  private let server: TrunkServer?
  private let following: DatabaseFollowing
  private let isStopped = Atomic<Bool>(false)

  /// Takes the folder, serves what is in it, and begins to follow.
  ///
  /// - Throws: `DataFolder.Failure`, `DiskError` or an error of the network; then nothing is left
  ///   running.
  public init(configuration: ReplicaDataConfiguration) async throws {
    precondition(!configuration.upstreams.isEmpty, "a replica needs an upstream")
    let options = configuration.options
    let folder = try DataFolder(path: configuration.folderPath)
    self.folder = folder
    if configuration.resets { try folder.removeAll() }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    // The link above, and the links of followers.
    let linkGroup = MultiThreadedEventLoopGroup(numberOfThreads: options.ship == nil ? 1 : 2)
    self.group = group
    self.linkGroup = linkGroup
    let node = NodeIdentity.starting(name: options.name)
    let trunk = Trunk(
      loop: linkGroup.next(), addresses: configuration.upstreams, node: node,
      filter: configuration.filter, folder: folder, secret: options.secret,
      logger: options.logger, connect: connectByTCP(options.shipTransport))
    self.trunk = trunk
    let names = folder.names().filter { configuration.filter.matches($0.text) }
    let catalogue = DatabaseCatalogue(names: names, isComplete: false) {
      SavedPosition(of: folder.databasePath($0))?.position
    }
    let shipLoop = options.ship.map { _ in linkGroup.next() }
    let keeper = ReplicaKeeper(
      folder: folder, options: options, trunk: trunk, shipLoop: shipLoop,
      catalogue: catalogue)
    let databases = OnDemandDatabases(
      keeper: keeper, names: names, catalogue: catalogue, role: .replica,
      limits: configuration.databases, timers: group.next(), logger: options.logger)
    databases.setLink {
      LinkStatus(
        address: trunk.address, isLinked: trunk.isLinked, followed: trunk.streamCount,
        contactMilliseconds: trunk.contactMilliseconds, lastError: trunk.lastError)
    }
    let filter = configuration.filter
    databases.setForward(
      takes: { filter.matches($0.text) }, clientsAreAnonymous: options.verifier == nil
    ) { trunk.change($0, isAnonymous: $1, completion: $2) }
    self.databases = databases
    server = shipLoop.map {
      TrunkServer(
        source: TrunkServer.Source(
          node: node, databases: databases, asksForCredentials: options.verifier != nil,
          identity: { folder.identity },
          lineage: { trunk.lineage },
          contactMilliseconds: {
            trunk.contactMilliseconds ?? ShipHeartbeat.noContactMilliseconds
          }),
        secret: options.secret, transport: options.shipTransport, logger: options.logger, loop: $0)
    }
    following = DatabaseFollowing(
      trunk: trunk, databases: databases, keeper: keeper, openMax: configuration.databases.openMax,
      logger: options.logger)
    listeners = ClientListeners(
      directory: databases, options: options, group: group,
      routes: DatabaseRoutes.all(databases, verifier: options.verifier))
    do {
      let addresses = try await listeners.start()
      listenAddress = addresses.line
      httpAddress = addresses.http
      let server = server
      shipAddress =
        try await options.ship.asyncMap {
          try await server?.start(host: $0.host, port: $0.port)
        } ?? nil
    } catch {
      await listeners.stop()
      await databases.stop()
      try? await group.shutdownGracefully()
      try? await linkGroup.shutdownGracefully()
      throw error
    }
    // Clients are served meanwhile.
    let thread = DatabaseThread()
    defer { thread.stop() }
    let held = try await thread.run { Self.held(folder, filter) }
    try await trunk.loop.submit { [trunk, following, server] in
      following.begin(held: held)
      trunk.follower = following
      trunk.onLineage = { server?.lineageChanged() }
      trunk.start()
    }.get()
  }

  /// What lies in the folder; it waits for the disk.
  private static func held(
    _ folder: DataFolder, _ filter: DatabaseFilter
  ) -> [String: CatalogueFollower.Held] {
    var held: [String: CatalogueFollower.Held] = [:]
    for name in folder.names() where filter.matches(name.text) {
      held[name.text] = DatabaseFollowing.held(name, folder)
    }
    return held
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
    await server?.stop()
    try? await trunk.loop.submit { [trunk] in trunk.stop() }.get()
    await following.stop()
    await databases.stop()
    folder.leave()
    try? await group.shutdownGracefully()
    try? await linkGroup.shutdownGracefully()
  }

  /// How many databases are being followed at this moment.
  public var streamCount: Int { trunk.streamCount }
  /// Whether the node above can be reached.
  public var isLinked: Bool { trunk.isLinked }
}
