// The databases of a primary that has many: a `PrimaryParts` for each that is open. They share the
// watcher of their WALs and the clients' loops; each has a thread for its writer, and more only while
// it needs them.

import Logging
import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// An open database of a primary.
final class OpenPrimary: OpenDatabase {
  let parts: PrimaryParts
  private let watcher: LogWatcher
  private let watched: LogWatcher.Watched
  private let told: DatabasePosition

  init(_ parts: PrimaryParts, _ watcher: LogWatcher, _ told: DatabasePosition) throws {
    self.parts = parts
    self.watcher = watcher
    self.told = told
    watched = try watcher.add(
      databasePath: parts.database.path, watch: parts.database.logWatch,
      tracker: parts.database.tracker
    ) { [weak parts] in parts?.captureForeign() }
  }

  var node: NodeContext { parts.context }
  var shipServer: ShipServer? { parts.shipServer }
  var usedNanoseconds: UInt64 { max(told.changedNanoseconds, shipServer?.usedNanoseconds ?? 0) }
  var isAtRest: Bool { shipServer?.isAtRest ?? true }

  func letFollowersGo() async -> Bool { await shipServer?.parkIfAtRest() ?? true }

  func close() async {
    watcher.remove(watched)
    await shipServer?.park()
    node.readers.close()
    await parts.stop()
    parts.database.leaveCheckpoints()
    told.note(parts.database.tracker.position)
  }
}

/// Tells the catalogue where a database stands, and remembers when that changed.
final class DatabasePosition: Sendable {
  private let name: DatabaseName
  private let catalogue: DatabaseCatalogue
  private let changed = Atomic<UInt64>(0)

  init(_ name: DatabaseName, _ catalogue: DatabaseCatalogue) {
    self.name = name
    self.catalogue = catalogue
  }

  var changedNanoseconds: UInt64 { changed.load(ordering: .relaxed) }

  func note(_ position: Position) {
    changed.store(monotonicNanoseconds(), ordering: .relaxed)
    catalogue.set(name, position)
  }
}

/// Works on the files of a primary's databases.
struct PrimaryKeeper: DatabaseKeeper {
  let folder: DataFolder
  /// Of each database: without listeners.
  let options: NodeOptions
  let watcher: LogWatcher
  let timers: any EventLoop
  /// Where followers are served; nil when there are none.
  let shipLoop: (any EventLoop)?
  /// Who this node is to its followers.
  let node: NodeIdentity
  let catalogue: DatabaseCatalogue

  /// The last commits that are kept in memory for the followers of one open database.
  private static let ringBytesMax = 4 << 20

  func exists(_ name: DatabaseName) -> Bool { folder.contains(name) }

  func open(_ name: DatabaseName) async throws -> any OpenDatabase {
    let thread = DatabaseThread()
    let began = monotonicNanoseconds()
    let told = DatabasePosition(name, catalogue)
    do {
      let parts = try await thread.run { [self] in
        let database = try PrimaryDatabase(
          path: folder.databasePath(name),
          logFileFramesMax: CheckpointLimits(framesMin: options.checkpointFrames).framesMax)
        return try PrimaryParts(
          database: database, name: name.text, options: options, writerThread: thread,
          timers: timers, shipLoop: shipLoop,
          ring: TransactionRing(bytesMax: shipLoop == nil ? 0 : Self.ringBytesMax), node: node,
          onAdvance: { told.note($0) })
      }
      let open = try OpenPrimary(parts, watcher, told)
      // Commits of other programs while it was closed are counted by now.
      told.note(parts.database.tracker.position)
      for note in parts.database.notes {
        options.logger.notice("\(note)", metadata: ["database": "\(name)"])
      }
      parts.status.set { [weak parts, name = options.name] in parts?.plainStatus(name, began) }
      parts.captureForeign()
      parts.scrubber.startLater()
      return open
    } catch {
      thread.stop()
      throw error
    }
  }

  func drop(_ name: DatabaseName) async throws {
    try await onThread { try folder.drop(name) }
  }

  func fork(
    _ source: any OpenDatabase, named: DatabaseName, to name: DatabaseName
  ) async throws {
    guard let open = source as? OpenPrimary else { preconditionFailure("not of this keeper") }
    let database = open.parts.database
    let position = try await onThread {
      try folder.fork(
        named, pageSize: database.pageSize, map: database.map, tracker: database.tracker, to: name)
    }
    options.logger.info(
      "a database was forked",
      metadata: ["database": "\(named)", "to": "\(name)", "position": "\(position)"])
  }

  private func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    let thread = DatabaseThread()
    defer { thread.stop() }
    return try await thread.run(body)
  }

  /// Paths and the like are for the log.
  func clientError(_ error: any Error) -> RequestError {
    switch error {
    case PrimaryDatabase.Failure.damagedPages:
      RequestError(.damaged, "the database is damaged: its operator must look at the log")
    case let error as DiskError where error.isDiskFull:
      RequestError(code: "SQLITE_FULL", message: "the disk is full", retry: true)
    case let error as SQLiteError where error.primaryCode == SQLiteError.busy: RequestError(error)
    default:
      RequestError(
        .primaryUnavailable, "the database cannot be used: its operator must look at the log")
    }
  }
}
