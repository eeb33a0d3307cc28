// Keeps the databases of a replica what they are above: performs what `CatalogueFollower` decides.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// Copies, follows and removes databases. It belongs to the trunk's loop.
final class DatabaseFollowing: TrunkFollower, @unchecked Sendable {  // confined to `trunk.loop`
  private let trunk: Trunk
  private let databases: OnDemandDatabases
  private let keeper: ReplicaKeeper
  private let logger: Logger
  private var follower: CatalogueFollower
  private var preparations: [String: Task<Void, Never>] = [:]
  private var tasks = 0
  private var isStopped = false
  /// What waits until everything that was begun has ended.
  private var ended: EventLoopPromise<Void>?

  /// First copies that are made at once; each takes a thread, and a window of the link.
  static let copiesMax = 4
  private static let pauseMilliseconds: Int64 = 500

  /// - Parameter held: what lies in the folder.
  init(
    trunk: Trunk, databases: OnDemandDatabases, keeper: ReplicaKeeper, openMax: Int,
    held: [String: CatalogueFollower.Held], logger: Logger
  ) {
    self.trunk = trunk
    self.databases = databases
    self.keeper = keeper
    self.logger = logger
    follower = CatalogueFollower(
      held: held, copiesMax: Self.copiesMax, worksMax: max(1, min(16, openMax / 4)))
  }

  /// Begins nothing more, and waits for what is under way.
  func stop() async {
    let future: EventLoopFuture<Void>? = try? await trunk.loop.submit { [self] in
      isStopped = true
      for preparation in preparations.values { preparation.cancel() }
      let promise = trunk.loop.makePromise(of: Void.self)
      ended = promise
      checkEnd()
      return promise.futureResult
    }.get()
    try? await future?.get()
  }

  private func checkEnd() {
    guard isStopped, tasks == 0 else { return }
    ended?.succeed()
    ended = nil
  }

  /// Whether the upstream has a database that cannot be served here yet.
  func isExpected(_ name: String) -> Bool { follower.isExpected(name) }

  // MARK: From the link

  func news(_ news: ShipNews) {
    guard DatabaseName(news.name) != nil, trunk.filter.matches(news.name) else { return }
    follower.news(news.name, news.fact)
    if follower.isInVain(news.name) { preparations[news.name]?.cancel() }
    pursue()
  }

  func listed() {
    follower.listed()
    databases.catalogue.complete()
    pursue()
  }

  func linkLost() {
    follower.linkLost()
    pursue()
  }

  func streamBegan(_ name: String, _ number: UInt16) { follower.streamBegan(name, number) }

  func streamEnded(_ name: String, _ number: UInt16) {
    follower.streamEnded(name, number)
    pursue()
  }

  func streamReported(_ name: String, _ position: Position?) {
    follower.streamReported(name, held: position.map(CatalogueFollower.Held.init))
    pursue()
  }

  // MARK: Work

  private func pursue() {
    while !isStopped, let (name, work) = follower.next() {
      guard let name = DatabaseName(name) else { continue }
      tasks += 1
      let task = Task { [self] in
        let (held, isDone) = await perform(work, name)
        trunk.loop.execute { [self] in ended(name, work, held, isDone) }
      }
      if work == .prepare { preparations[name.text] = task }
    }
  }

  private func ended(
    _ name: DatabaseName, _ work: CatalogueFollower.Work, _ held: CatalogueFollower.Held?,
    _ isDone: Bool
  ) {
    tasks -= 1
    if work == .prepare { preparations[name.text] = nil }
    if isDone {
      follower.finished(name.text, held: held)
    } else {
      follower.failed(name.text, held: held)
      let bound = NIOLoopBound(self, eventLoop: trunk.loop)
      trunk.loop.scheduleTask(in: .milliseconds(Self.pauseMilliseconds)) {
        bound.value.follower.resume(name.text)
        bound.value.pursue()
      }
    }
    checkEnd()
    pursue()
  }

  private func perform(
    _ work: CatalogueFollower.Work, _ name: DatabaseName
  ) async -> (held: CatalogueFollower.Held?, isDone: Bool) {
    do {
      switch work {
      case .prepare: return (CatalogueFollower.Held(try await prepare(name)), true)
      case .follow: return try await follow(name)
      case .remove:
        try await databases.removeFollowed(name)
        logger.notice(
          "a database is gone above, and is removed", metadata: ["database": "\(name)"])
        return (nil, true)
      }
    } catch {
      if !(error is CancellationError), !(error is ThreadStopped) {
        logger.warning(
          "a database cannot be brought up to date now",
          metadata: ["database": "\(name)", "work": "\(work)", "error": "\(error)"])
      }
      return (Self.held(name, keeper.folder), false)
    }
  }

  /// What lies in a folder of a database that nobody has open.
  static func held(_ name: DatabaseName, _ folder: DataFolder) -> CatalogueFollower.Held? {
    guard folder.contains(name) else { return nil }
    let saved = SavedPosition(of: folder.databasePath(name))
    return CatalogueFollower.Held(database: saved?.database, position: saved?.position)
  }

  private func prepare(_ name: DatabaseName) async throws -> Position {
    try databases.beginPreparation(name)
    var isThere = false
    defer { databases.endPreparation(name, isThere: isThere) }
    let position = try await keeper.prepare(name)
    isThere = true
    logger.info(
      "a database can be read from now on",
      metadata: ["database": "\(name)", "position": "\(position)"])
    return position
  }

  private func follow(
    _ name: DatabaseName
  ) async throws -> (held: CatalogueFollower.Held?, isDone: Bool) {
    let opened: (any OpenDatabase, DatabaseLease)
    do {
      opened = try await withCheckedThrowingContinuation { continuation in
        databases.acquireForFollowing(name, on: trunk.loop) { continuation.resume(with: $0) }
      }
    } catch {
      guard keeper.isUnready(name) else { throw error }
      return (CatalogueFollower.Held(try await prepare(name)), true)
    }
    guard let open = opened.0 as? OpenReplica else { preconditionFailure("not of this keeper") }
    let (position, hasAll) = await open.catchUp()
    withExtendedLifetime(opened.1) {}
    return (CatalogueFollower.Held(position), hasAll)
  }
}
