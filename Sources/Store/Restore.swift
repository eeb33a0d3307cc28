// Puts a copy of a database in the place of a primary's. Replicas then follow by comparison, and
// keep what they had.

import Glibc
import WALShip

/// Puts an ordinary SQLite file in place as a primary's database.
public enum Restore {
  public struct Outcome: Sendable {
    /// Where the primary stands, in its new epoch.
    public var position: Position
    /// Where the former database is now; nil when there was none.
    public var former: String?
    public var bytes: Int
  }

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case same(String)
    case replicaFile(String)
    case damaged(String, String)
    public var description: String {
      switch self {
      case .same(let path): "\(path) cannot be restored from itself"
      case .replicaFile(let path):
        "\(path) is a replica's file: use `edge-sql promote`, or choose another place"
      case .damaged(let path, let finding): "\(path) is damaged: \(finding)"
      }
    }
  }

  /// Restores `source` as the database at `path`; the former one is kept aside.
  ///
  /// - Throws: `Failure`, `RoleChange.Failure.inUse`, `SQLiteError`, `DiskError`; unless the names
  ///   were being changed, everything is as it was.
  public static func run(from source: String, to path: String) throws -> Outcome {
    guard Disk.fileNumber(source) != Disk.fileNumber(path) || !Disk.exists(path) else {
      throw Failure.same(path)
    }
    let part = path + "-restoring"
    guard Disk.fileNumber(source) != Disk.fileNumber(part) || !Disk.exists(part) else {
      throw Failure.same(part)
    }
    try requireReplaceable(path)
    let map = (try? PageMapFile(opening: PrimaryDatabase.pageMapPath(of: path)))?.base
    let bytes: Int
    let former: String?
    do {
      try Disk.remove(part)
      bytes = try copy(source, to: part)
      try requireSound(part, named: source)
      former = try setAside(path)
    } catch {
      for suffix in ["", "-wal", "-shm"] { try? Disk.remove(part + suffix) }
      throw error
    }
    // The page map stays: with it the next start sees that these are the pages of another history.
    for suffix in ["-wal", "-shm"] { try Disk.remove(path + suffix) }
    try Disk.rename(part, to: path)
    let position = try RoleChange.beginEpoch(path, after: map?.history.current)
    return Outcome(position: position, former: former, bytes: bytes)
  }

  /// Copies the pages of a database, with what its WAL holds, as they are at one moment.
  private static func copy(_ source: String, to part: String) throws -> Int {
    let pages = try PageComparison(path: source)
    let file = try DiskFile(path: part, mode: .create, operation: .openCopy)
    let pageBytes = pages.pageSize.bytes
    for number in 0..<pages.pageCount where Pgno(number + 1) != pages.pageSize.lockPage {
      let page = try pages.page(Pgno(number + 1))
      if number == 0 { PositionStamp.clear(page) }
      try file.write(UnsafeRawBufferPointer(page), at: Int(number) * pageBytes, .writeCopy)
    }
    try file.sync(.syncCopy)
    return Int(pages.pageCount) * pageBytes
  }

  /// Lets SQLite check the copy: to look at the source itself would leave files beside it.
  private static func requireSound(_ part: String, named source: String) throws {
    do {
      let connection = try Connection(path: part, mode: .readWrite)
      let finding = try connection.query("PRAGMA integrity_check(1)").first?.first
      guard finding == .text("ok") else {
        throw Failure.damaged(source, finding.map { "\($0)" } ?? "SQLite cannot check it")
      }
    } catch let error as SQLiteError {
      throw Failure.damaged(source, error.message)
    }
    for suffix in ["-wal", "-shm"] { try Disk.remove(part + suffix) }
  }

  private static func requireReplaceable(_ path: String) throws {
    guard let size = Disk.size(path), size > 0 else { return }
    let header = try DatabaseHeader(file: path)
    if header?.stamp != nil { throw Failure.replicaFile(path) }
    if header != nil { try RoleChange.requireUnused(path) }
  }

  /// Gives the present database another name.
  private static func setAside(_ path: String) throws -> String? {
    guard let size = Disk.size(path), size > 0 else { return nil }
    let header = try DatabaseHeader(file: path)
    let map = try? PageMapFile(opening: PrimaryDatabase.pageMapPath(of: path))
    // A damaged database cannot be settled; its WAL goes with it.
    if header != nil {
      try RoleChange.requireUnused(path)
      // Everything in one file: a crash between two renames must not leave half of it.
      try? RoleChange.foldLog(path)
    }
    let kept = DivergedCopies.freePath(
      of: path,
      Position(
        database: .zero, epoch: map?.base.history.current ?? Epoch(0),
        txid: map?.live.txid ?? .zero, checksum: .empty))
    try Disk.rename(path, to: kept)
    if Disk.exists(path + "-wal") { try Disk.rename(path + "-wal", to: kept + "-wal") }
    try DivergedCopies.prune(path)
    return kept
  }
}

extension RoleChange {
  /// - Throws: `Failure.inUse` when a primary or another program has the database open.
  static func requireUnused(_ path: String) throws {
    do {
      let connection = try Connection(path: path, mode: .readWrite)
      connection.keepLog()
      connection.setBusyTimeout(milliseconds: 500)
      try connection.execute("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK")
    } catch {
      // What cannot be opened at all is not in use by anybody who could.
      if error.primaryCode == SQLiteError.busy { throw Failure.inUse(path) }
    }
  }
}
