// A primary of many databases: the folder that they lie in, and the clients' listeners in front of
// them. The primary of one database is `PrimaryService`.

import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Serving
import Store
import Synchronization

/// What a primary of many databases is configured with.
public struct PrimaryDataConfiguration: Sendable {
  /// The folder of the databases; it is made if need be.
  public var folderPath: String
  public var databases = OnDemandDatabases.Limits()
  /// Its address for replicas is of no use: only single databases are followed.
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
  public let databases: OnDemandDatabases

  private let listeners: ClientListeners
  private let watcher: LogWatcher
  private let group: MultiThreadedEventLoopGroup
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
    inner.ship = nil
    let folder = try DataFolder(path: configuration.folderPath)
    watcher = try LogWatcher()
    let group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    self.group = group
    let databases = OnDemandDatabases(
      keeper: PrimaryKeeper(
        folder: folder, options: inner, watcher: watcher, timers: group.next()),
      role: .primary, limits: configuration.databases, timers: group.next(),
      logger: options.logger)
    self.databases = databases
    listeners = ClientListeners(
      directory: databases, options: options, group: group,
      routes: DatabaseRoutes.all(databases, verifier: options.verifier))
    do {
      let addresses = try await listeners.start()
      listenAddress = addresses.line
      httpAddress = addresses.http
    } catch {
      await databases.stop()
      try? await group.shutdownGracefully()
      throw error
    }
    watcher.start()
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
    await databases.stop()
    watcher.stop()
    try? await group.shutdownGracefully()
  }
}
