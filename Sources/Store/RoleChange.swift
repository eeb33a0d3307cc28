// Makes a replica's file a primary's, and the other way round, while no node has it open. Each step
// leaves a file that one of the two roles can start from, so a crash in between loses nothing.

import Glibc
import WALShip

/// Changes of role. Nothing else may use the database meanwhile.
public enum RoleChange {
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notKnown(String)
    case inUse(String)
    case alreadyReplica(String)
    case foreignWrite(String)
    case neverConnected(String)
    case unsound(String, String)
    public var description: String {
      switch self {
      case .notKnown(let path):
        "\(path) has no page map: it is neither a replica's nor a primary's database"
      case .inUse(let path): "other programs have \(path) open: close them first"
      case .alreadyReplica(let path): "\(path) is a replica's file already"
      case .foreignWrite(let path):
        "another program wrote to \(path): let it follow its upstream once more, or use `edge-sql restore`"
      case .neverConnected(let path):
        "\(path) does not know the identity of its database: let it follow its upstream once more"
      case .unsound(let path, let finding): "\(path) is damaged: \(finding)"
      }
    }
  }

  // MARK: Promote

  /// Makes the file of a stopped replica, or of a primary that was superseded, a primary's, in a
  /// new epoch.
  ///
  /// - Returns: the new epoch, and the last transaction that it builds on.
  /// - Throws: `Failure`, `PrimaryDatabase.Failure`, `WALInjector.Failure.inUse`, `SQLiteError`,
  ///   `DiskError`.
  public static func promote(_ path: String) throws -> (epoch: Epoch, after: TXID) {
    guard let header = try DatabaseHeader(file: path) else {
      throw PrimaryDatabase.Failure.notADatabase(path)
    }
    guard Disk.exists(PrimaryDatabase.pageMapPath(of: path)) else { throw Failure.notKnown(path) }
    let known =
      header.stamp == nil ? try primaryIdentity(path) : try settleReplica(path, header)
    try known.save(path)
    if header.stamp != nil {
      try rewriteFirstPage(path, pageSize: header.pageSize) { PositionStamp.clear($0) }
    }
    _ = try PrimaryDatabase(path: path).close()
    return (known.history.current, known.history.forks.last?.last ?? .zero)
  }

  private static func primaryIdentity(_ path: String) throws -> DatabaseIdentity {
    let database = try PrimaryDatabase(path: path, acceptsSuperseded: true)
    let map = database.map
    let position = try database.close()
    var history = map.base.history
    history.fork(after: position.txid, above: map.base.superseding)
    return DatabaseIdentity(identity: map.identity, history: history)
  }

  /// Opens a primary's database that was put in place, and lets a new epoch begin unless its start
  /// has done so.
  ///
  /// - Parameter former: the epoch of the database that was here before.
  static func beginEpoch(_ path: String, after former: Epoch?) throws -> Position {
    let position = try PrimaryDatabase(path: path, acceptsSuperseded: true).close()
    guard position.epoch == former else { return position }
    try primaryIdentity(path).save(path)
    return try PrimaryDatabase(path: path).close()
  }

  /// Puts everything that a replica has into its file.
  private static func settleReplica(
    _ path: String, _ header: DatabaseHeader
  ) throws -> DatabaseIdentity {
    let database = try ReplicaDatabase(path: path, header: header)
    guard !database.isForeign else { throw Failure.foreignWrite(path) }
    let isNew = try database.recoverMap()
    guard database.unexplainedPages == 0 else {
      throw Failure.unsound(path, "\(database.unexplainedPages) pages changed by themselves")
    }
    guard !database.isDoubtful else {
      throw Failure.unsound(path, "pages changed by themselves, and were not compared since")
    }
    let map = database.map
    guard map.identity.database.low != 0 else { throw Failure.neverConnected(path) }
    if !isNew {
      let wrong = try PageCheck(path: path, map: map, tracker: database.tracker).checkAll()
      guard wrong.isEmpty || map.mend(wrong) else {
        throw PrimaryDatabase.Failure.damagedPages(path, wrong.prefix(8).map(\.pgno))
      }
    }
    try requireSound(path)
    _ = try database.copyLog()
    guard try database.restartLog(fileFramesMax: 0, waitingMilliseconds: readersMilliseconds) else {
      throw Failure.inUse(path)
    }
    let position = database.tracker.position
    var history = database.tracker.epochs
    let seen = max(history.current, map.base.superseding)
    history.current = position.epoch
    history.fork(after: position.txid, above: seen)
    return DatabaseIdentity(identity: map.identity, history: history)
  }

  /// How long a change of role waits for others who read.
  private static let readersMilliseconds = 1000

  private static func requireSound(_ path: String) throws {
    let connection = try Connection(path: path, mode: .readOnly)
    guard case .text(let finding)? = try connection.query("PRAGMA quick_check(1)").first?.first
    else { throw Failure.unsound(path, "SQLite cannot check it") }
    guard finding == "ok" else { throw Failure.unsound(path, finding) }
  }

  // MARK: Demote

  /// Makes the file of a stopped primary a replica's: it then follows the primary that took over,
  /// and gets only the pages that differ.
  ///
  /// - Returns: where the replica stands.
  public static func demote(_ path: String) throws -> Position {
    guard let header = try DatabaseHeader(file: path) else {
      throw PrimaryDatabase.Failure.notADatabase(path)
    }
    guard header.stamp == nil else { throw Failure.alreadyReplica(path) }
    guard Disk.exists(PrimaryDatabase.pageMapPath(of: path)) else { throw Failure.notKnown(path) }
    let position = try PrimaryDatabase(path: path, acceptsSuperseded: true).close()
    try foldLog(path)
    try rewriteFirstPage(path, pageSize: header.pageSize) { PositionStamp(position).write(to: $0) }
    return position
  }

  /// Lets SQLite copy the WAL into the file and remove it, which it does for the last connection.
  static func foldLog(_ path: String) throws {
    do {
      let connection = try Connection(path: path, mode: .readWrite)
      _ = try connection.query("SELECT rootpage FROM sqlite_schema LIMIT 1")
    }
    guard !Disk.exists(path + "-wal") else { throw Failure.inUse(path) }
  }

  /// Changes the marks in page 1. No connection of this process may have the file open: closing a
  /// descriptor drops its locks.
  private static func rewriteFirstPage(
    _ path: String, pageSize: PageSize, _ change: (UnsafeMutableRawBufferPointer) -> Void
  ) throws {
    let file = try DiskFile(path: path, mode: .readWrite, operation: .openCopy)
    let page = PageMemory(bytes: pageSize.bytes)
    guard try file.read(into: page.bytes, at: 0, .readCopy) == pageSize.bytes else {
      throw DiskError(operation: .readCopy, errorNumber: EIO, path: path)
    }
    change(page.bytes)
    try file.write(page.readOnly, at: 0, .writeCopy)
    try file.sync(.syncCopy)
  }
}

extension PrimaryDatabase {
  /// Copies all of the WAL into the file and notes that the end was orderly.
  ///
  /// - Returns: the last position.
  /// - Throws: `RoleChange.Failure.inUse` when a reader keeps frames from being copied.
  func close() throws -> Position {
    try captureAll()
    let outcome = try checkpointer.run(isClean: true) { [self] _ in map.live }
    guard outcome.copied == outcome.frames else { throw RoleChange.Failure.inUse(path) }
    return tracker.position
  }
}
