// The databases of a primary that has many: a `PrimaryParts` for each that is open. They share the
// watcher of their WALs and the clients' loops; each has a thread for its writer, and more only while
// it needs them.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// An open database of a primary.
final class OpenPrimary: OpenDatabase {
  let parts: PrimaryParts
  private let watcher: LogWatcher
  private let watched: LogWatcher.Watched

  init(_ parts: PrimaryParts, _ watcher: LogWatcher) throws {
    self.parts = parts
    self.watcher = watcher
    watched = try watcher.add(
      databasePath: parts.database.path, watch: parts.database.logWatch,
      tracker: parts.database.tracker
    ) { [weak parts] in parts?.captureForeign() }
  }

  var node: NodeContext { parts.context }

  func close() async {
    watcher.remove(watched)
    node.readers.close()
    await parts.stop()
    parts.database.leaveCheckpoints()
  }
}

/// Works on the files of a primary's databases.
struct PrimaryKeeper: DatabaseKeeper {
  let folder: DataFolder
  /// Of each database: without listeners.
  let options: NodeOptions
  let watcher: LogWatcher
  let timers: any EventLoop

  func names() -> [DatabaseName] { folder.names() }
  func exists(_ name: DatabaseName) -> Bool { folder.contains(name) }

  func open(_ name: DatabaseName) async throws -> any OpenDatabase {
    let thread = DatabaseThread()
    let began = monotonicNanoseconds()
    do {
      let parts = try await thread.run { [self] in
        let database = try PrimaryDatabase(
          path: folder.databasePath(name),
          logFileFramesMax: CheckpointLimits(framesMin: options.checkpointFrames).framesMax)
        return try PrimaryParts(
          database: database, name: name.text, options: options, writerThread: thread,
          timers: timers, ring: TransactionRing(bytesMax: 0))
      }
      let open = try OpenPrimary(parts, watcher)
      for note in parts.database.notes {
        options.logger.notice("\(note)", metadata: ["database": "\(name)"])
      }
      parts.status.set { [weak parts, name = options.name] in parts?.plainStatus(name, began) }
      parts.captureForeign()
      scrubLater(parts)
      return open
    } catch {
      thread.stop()
      throw error
    }
  }

  /// A database that stays open is checked as others are; one that comes and goes is not read as a
  /// whole each time.
  private func scrubLater(_ parts: PrimaryParts) {
    timers.scheduleTask(in: .seconds(Int64(options.scrub.intervalSeconds))) { [weak parts] in
      parts?.scrubber.start()
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
