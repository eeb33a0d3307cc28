// Keeps the databases of a replica what they are above: performs what `CatalogueFollower` decides.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// Copies, follows and removes databases. It belongs to the trunk's loop.
final class DatabaseFollowing: TrunkFollower, @unchecked Sendable {  // confined to `trunk.loop`
  private let trunk: Trunk
  private let databases: OnDemandDatabases
  private let keeper: ReplicaKeeper
  private let logger: Logger
  private let worksMax: Int
  private var follower: CatalogueFollower
  private var preparations: [String: Task<Void, Never>] = [:]
  private var tasks = 0
  private var isStopped = false
  /// Nothing that is above was found missing here since the start.
  private var isComplete = false
  /// Names that cannot be served yet, or not now; may be used from any thread.
  private let expected = Mutex<Set<DatabaseName>>([])
  private let isStopping = Atomic<Bool>(false)
  /// What waits until everything that was begun has ended.
  private var ended: EventLoopPromise<Void>?

  /// First copies that are made at once; each takes a thread, and a window of the link.
  static let copiesMax = 4
  private static let pauseMilliseconds: Int64 = 500

  init(
    trunk: Trunk, databases: OnDemandDatabases, keeper: ReplicaKeeper, openMax: Int,
    logger: Logger
  ) {
    self.trunk = trunk
    self.databases = databases
    self.keeper = keeper
    self.logger = logger
    worksMax = max(1, min(16, openMax / 4))
    follower = CatalogueFollower(held: [:], copiesMax: Self.copiesMax, worksMax: worksMax)
    databases.setExpected { [weak self] name in
      self?.expected.withLock { $0.contains(name) } ?? false ? ReplicaKeeper.notReady : nil
    }
  }

  /// Begins with what lies in the folder; before there is a link.
  func begin(held: [String: CatalogueFollower.Held]) {
    follower = CatalogueFollower(held: held, copiesMax: Self.copiesMax, worksMax: worksMax)
  }

  /// Begins nothing more, and waits for what is under way.
  func stop() async {
    isStopping.store(true, ordering: .relaxed)
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

  // MARK: From the link

  func news(_ news: ShipNews) {
    guard DatabaseName(news.name) != nil, trunk.filter.matches(news.name) else { return }
    follower.news(news.name, news.fact)
    note(news.name)
    pursue()
  }

  func listed() {
    follower.listed()
    removeLeftovers()
    pursue()
  }

  /// What is left of copies that were cut off, of databases that are gone by now.
  private func removeLeftovers() {
    let names = keeper.folder.incompleteNames().filter {
      trunk.filter.matches($0.text) && !follower.isExpected($0.text)
    }
    guard !names.isEmpty else { return }
    Task { [databases, keeper] in
      for name in names {
        guard (try? databases.beginPreparation(name)) != nil else { continue }
        try? await keeper.drop(name)
        databases.endPreparation(name, isThere: false)
      }
    }
  }

  /// Something was heard of a database, or done about it.
  private func note(_ name: String) {
    if follower.isInVain(name) { preparations[name]?.cancel() }
    guard let database = DatabaseName(name) else { return }
    let isExpected = follower.isExpected(name)
    expected.withLock { names in
      if isExpected { names.insert(database) } else { names.remove(database) }
    }
  }

  func linkLost() {
    follower.linkLost()
    pursue()
  }

  func streamBegan(_ name: String, _ number: UInt16) { follower.streamBegan(name, number) }

  func streamEnded(_ name: String, _ number: UInt16) {
    follower.streamEnded(name, number)
    note(name)
    pursue()
  }

  func streamReported(_ name: String, _ position: Position?) {
    follower.streamReported(name, held: position.map(CatalogueFollower.Held.init))
    note(name)
    pursue()
  }

  // MARK: Work

  private func pursue() {
    if !isComplete, follower.hasEverything {
      isComplete = true
      databases.catalogue.complete()
    }
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
    note(name.text)
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
    let position: Position
    do {
      position = try await keeper.prepare(name)
    } catch let error as CancellationError {
      // What is there of it is of a database that is gone; at a stop it is gone on with later.
      if !isStopping.load(ordering: .relaxed) { try? await keeper.drop(name) }
      throw error
    }
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
