// The databases of a replica that has many: a `ReplicaParts` for each that is open, with a loop, and
// so a thread, of its own, so that one that takes long over something holds back no other.

import Logging
import NIOCore
import NIOPosix
import Serving
import Store
import Synchronization
import WALShip

/// An open database of a replica.
final class OpenReplica: OpenDatabase {
  private let parts: ReplicaParts
  private let serving: ReplicaParts.Serving
  private let group: MultiThreadedEventLoopGroup
  private let trunk: Trunk
  private let report: @Sendable (Position) -> Void
  private let published: Atomic<UInt64>

  /// - Parameter report: told where the database stands, whenever that changes.
  init(
    _ parts: ReplicaParts, _ serving: ReplicaParts.Serving, _ group: MultiThreadedEventLoopGroup,
    _ trunk: Trunk, report: @escaping @Sendable (Position) -> Void
  ) {
    self.parts = parts
    self.serving = serving
    self.group = group
    self.trunk = trunk
    self.report = report
    published = Atomic(monotonicNanoseconds())
  }

  var node: NodeContext { serving.context }
  var shipServer: ShipServer? { serving.shipServer }
  var usedNanoseconds: UInt64 {
    max(published.load(ordering: .relaxed), shipServer?.usedNanoseconds ?? 0)
  }
  var isAtRest: Bool {
    !parts.upstream.status.isBusy && parts.health.damage == nil && shipServer?.isAtRest ?? true
  }
  private var loop: any EventLoop { parts.upstream.loop }

  /// From now on, what is applied is told to everybody; on the loop.
  func begin() throws {
    try parts.recover(serving.database)
    parts.attach(serving) { [weak self] in
      guard let self else { return }
      published.store(monotonicNanoseconds(), ordering: .relaxed)
      report(serving.database.tracker.position)
    }
    try parts.follow { _ in }
    if serving.database.isDoubtful { parts.upstream.wake() }
    report(serving.database.tracker.position)
    serving.scrubber.startLater()
  }

  func status(_ name: String, _ began: UInt64) -> NodeStatus {
    parts.plainStatus(serving, name, began)
  }

  /// Follows until nothing is missing that the upstream tells of.
  ///
  /// - Returns: where it then stands, and whether that came off.
  func catchUp() async -> (position: Position, hasAll: Bool) {
    let hasAll = await withCheckedContinuation { continuation in
      loop.execute { [parts] in
        parts.upstream.wake()
        parts.upstream.whenAtRest { continuation.resume(returning: $0) }
      }
    }
    return (serving.database.tracker.position, hasAll)
  }

  func letFollowersGo() async -> Bool { await shipServer?.parkIfAtRest() ?? true }

  func close() async {
    node.readers.close()
    await serving.shipServer?.park()
    serving.quiesce()
    await serving.checkpoints.stop()
    try? await loop.submit { [parts] in parts.close() }.get()
    report(serving.database.tracker.position)
    await trunk.settle()
    try? await group.shutdownGracefully()
  }
}

/// Works on the files of a replica's databases.
final class ReplicaKeeper: DatabaseKeeper {
  let folder: DataFolder
  /// Of each database: without listeners of its own.
  private let options: NodeOptions
  private let trunk: Trunk
  /// Where followers are served; nil when there are none.
  private let shipLoop: (any EventLoop)?
  private let catalogue: DatabaseCatalogue
  /// Databases that must be caught up with before they are served.
  private let unready = Mutex<Set<DatabaseName>>([])

  init(
    folder: DataFolder, options: NodeOptions, trunk: Trunk,
    shipLoop: (any EventLoop)?, catalogue: DatabaseCatalogue
  ) {
    self.folder = folder
    self.options = options
    self.trunk = trunk
    self.shipLoop = shipLoop
    self.catalogue = catalogue
  }

  /// What there is may be less than what was served.
  struct NotReady: Error {}

  func exists(_ name: DatabaseName) -> Bool { folder.contains(name) }

  /// Whether a database was found to be one that must be caught up with first.
  func isUnready(_ name: DatabaseName) -> Bool { unready.withLock { $0.contains(name) } }

  func open(_ name: DatabaseName) async throws -> any OpenDatabase {
    // Until it was prepared, nobody's tries keep its files busy.
    if isUnready(name) { throw NotReady() }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    do {
      let began = monotonicNanoseconds()
      return try await loop.submit { [self] in
        let parts = try makeParts(name, loop)
        guard let database = parts.database, !database.awaitsUpstream else {
          unready.withLock { _ = $0.insert(name) }
          parts.close()
          throw NotReady()
        }
        let status = StatusSource(role: .replica, tracker: database.tracker)
        let made = parts.makeServing(
          database, status: { status.make() }, pages: { true }, shipLoop: shipLoop)
        let open = OpenReplica(parts, made, group, trunk) { [catalogue] in catalogue.set(name, $0) }
        status.set { [weak open, options] in open?.status(options.name, began) }
        try open.begin()
        return open
      }.get()
    } catch {
      try? await group.shutdownGracefully()
      throw error
    }
  }

  private func makeParts(_ name: DatabaseName, _ loop: any EventLoop) throws -> ReplicaParts {
    var logged = options
    logged.logger[metadataKey: "database"] = "\(name)"
    return try ReplicaParts(
      configuration: ReplicaConfiguration(
        databasePath: folder.databasePath(name), upstreams: [], options: logged),
      loop: loop, trunk: trunk, name: name.text)
  }

  // MARK: What cannot be served yet

  /// Follows a database until it can be served, and closes it: its first copy, or what may be less
  /// than what was served. It ends early when its task is cancelled.
  ///
  /// - Returns: where it then stands.
  func prepare(_ name: DatabaseName) async throws -> Position {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    let ready = loop.makePromise(of: Void.self)
    do {
      let parts = try await loop.submit { [self] in
        do {
          let parts = try makeParts(name, loop)
          if let database = parts.database, !database.awaitsUpstream {
            try parts.recover(database)
            ready.succeed()
          }
          try parts.follow { _ in ready.succeed() }
          parts.upstream.wake()
          return parts
        } catch {
          ready.fail(error)
          throw error
        }
      }.get()
      let outcome = await withTaskCancellationHandler {
        do {
          try await ready.futureResult.get()
          return nil as (any Error)?
        } catch { return error }
      } onCancel: {
        ready.fail(CancellationError())
      }
      let position = try await loop.submit { [parts] in
        parts.close()
        return parts.database?.tracker.position
      }.get()
      await trunk.settle()
      if let outcome { throw outcome }
      guard let position else { throw NotReady() }
      unready.withLock { _ = $0.remove(name) }
      catalogue.set(name, position)
      try? await group.shutdownGracefully()
      return position
    } catch {
      try? await group.shutdownGracefully()
      throw error
    }
  }

  func drop(_ name: DatabaseName) async throws {
    let thread = DatabaseThread()
    defer { thread.stop() }
    try await thread.run { [folder] in try folder.drop(name) }
    unready.withLock { _ = $0.remove(name) }
  }

  func fork(_ source: any OpenDatabase, named: DatabaseName, to name: DatabaseName) async throws {
    throw RequestError(.notAllowed, "databases are made at the primary")
  }

  func clientError(_ error: any Error) -> RequestError {
    switch error {
    case is NotReady: Self.notReady
    case let error as SQLiteError where error.primaryCode == SQLiteError.busy: RequestError(error)
    default:
      RequestError(
        .primaryUnavailable, "the database cannot be used: its operator must look at the log")
    }
  }

  static let notReady = RequestError(
    code: ErrorCode.overloaded.rawValue,
    message: "this replica does not have all of the database yet", retry: true)
}

extension ReplicaParts {
  /// How the database is doing, without what is known of listeners.
  ///
  /// - Parameter began: when it was opened, by the monotonic clock.
  func plainStatus(_ serving: Serving, _ name: String, _ began: UInt64) -> NodeStatus {
    let database = serving.database
    let position = database.tracker.position
    var status = NodeStatus(
      role: .replica, version: SoftwareVersion.current, name: name, position: position,
      listen: "see the node", sqliteVersion: SQLiteLibrary.version)
    status.pageSize = database.pageSize.bytes
    status.pageCount = database.map.live.pageCount
    status.uptimeMilliseconds = (monotonicNanoseconds() - began) / 1_000_000
    let contact = serving.context.contactMilliseconds()
    status.upstream = upstream.status.report(position, contactMilliseconds: contact)
    status.add(serving.shipServer, head: position.txid)
    status.add(ring)
    status.add(database.logWatch, pageSize: status.pageSize)
    status.checkpoints = serving.checkpoints.record.status
    status.scrub = serving.scrubber.status
    status.diverged = DivergedCopies.names(of: database.path)
    status.damage = health.damage
    return status
  }
}
