// What a replica had before it followed another history is kept beside its file, as an ordinary
// database: `NAME.diverged-EPOCH-TXID`. Transactions that the primary lost, or rows that somebody
// wrote to the replica's file, can be looked up there. docs/GUARANTEES.md, P6

import Glibc
import WALShip

/// The kept-aside states of one database.
public enum DivergedCopies {
  /// Older ones are removed.
  public static let keptMax = 3
  /// Bytes that must stay free on the disk.
  private static let reserveBytes = 64 << 20

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case noSpace(String)
    public var description: String {
      switch self {
      case .noSpace(let path): "there is no space to keep the present state as \(path)"
      }
    }
  }

  private static let mark = ".diverged-"

  /// A name for the state at a position that no file has yet.
  static func freePath(of database: String, _ position: Position) -> String {
    let path = "\(database)\(mark)\(position.epoch)-\(position.txid)"
    guard Disk.exists(path) else { return path }
    for number in 2...1000 where !Disk.exists("\(path)-\(number)") { return "\(path)-\(number)" }
    return "\(path)-1001"
  }

  /// The names of the kept files, newest first.
  public static func names(of database: String) -> [String] {
    let (folder, name) = Disk.split(database)
    return Disk.names(in: folder)
      .filter { $0.hasPrefix(name + mark) && isPosition($0.dropFirst((name + mark).count)) }
      .map { (name: $0, time: Disk.modificationTime(folder + "/" + $0)) }
      .sorted { ($0.time, $0.name) > ($1.time, $1.name) }
      .map(\.name)
  }

  /// Not what SQLite puts beside a database, nor a copy that is not complete.
  private static func isPosition(_ text: Substring) -> Bool {
    text.split(separator: "-", omittingEmptySubsequences: false).allSatisfy { UInt64($0) != nil }
  }

  private static let unfinished = ".part"

  /// Removes the oldest of too many.
  static func prune(_ database: String) throws(DiskError) {
    let folder = Disk.split(database).folder
    for name in names(of: database).dropFirst(keptMax) {
      for suffix in ["", "-wal", "-shm"] { try Disk.remove("\(folder)/\(name)\(suffix)") }
    }
  }

  /// Writes the present state of a database beside it, on a thread that may wait.
  ///
  /// - Returns: the path.
  /// - Throws: `Failure.noSpace`, `DiskError`, `SQLiteError`; then nothing is left behind.
  public static func keep(
    _ database: String, pageSize: PageSize, tracker: PositionTracker
  ) throws -> String {
    let reader = try SnapshotReader(path: database, pageSize: pageSize, tracker: tracker)
    let snapshot = try reader.begin()
    defer { reader.end() }
    let kept = freePath(of: database, snapshot.position)
    let bytes = Int(snapshot.pageCount) * pageSize.bytes
    if let free = Disk.freeBytes(at: Disk.split(database).folder), free < bytes + reserveBytes {
      throw Failure.noSpace(kept)
    }
    let part = kept + unfinished
    do {
      try Disk.remove(part)
      let file = try DiskFile(path: part, mode: .create, operation: .openCopy)
      for number in 0..<snapshot.pageCount {
        let pgno = Pgno(number + 1)
        guard pgno != pageSize.lockPage else { continue }
        try file.write(try reader.read(pgno), at: pgno.index * pageSize.bytes, .writeCopy)
      }
      try file.sync(.syncCopy)
      try Disk.rename(part, to: kept)
    } catch {
      try? Disk.remove(part)
      throw error
    }
    try prune(database)
    return kept
  }
}
