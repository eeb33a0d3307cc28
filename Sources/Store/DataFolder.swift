// The folder of a node that serves many databases: which there are, and how one is removed or made
// from another. Each is an ordinary file `NAME.db` with what lies beside it, so that everything else
// works on it as on a single one.
//
// A crash at any moment leaves a database that is there, or one that is gone: `NAME.dropped` says
// that what still lies beside it belongs to nobody.

import Glibc
import WALShip

/// The name of a database: 1 to 64 of `a-z`, `0-9`, `_` and `-`. No such name leads out of a folder.
public struct DatabaseName: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let text: String
  public static let bytesMax = 64
  public static let rule = "1 to 64 of a-z, 0-9, _ and -"

  public init?(_ text: some StringProtocol) {
    let bytes = text.utf8
    guard !bytes.isEmpty, bytes.count <= Self.bytesMax, bytes.allSatisfy(Self.isAllowed) else {
      return nil
    }
    self.text = String(text)
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }

  public static func < (one: DatabaseName, other: DatabaseName) -> Bool { one.text < other.text }
  public var description: String { text }
}

/// A folder of databases, which this process has for itself. Its methods wait for the disk; they may
/// be called on any thread, for one database by one at a time.
public final class DataFolder: Sendable {
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notAFolder(String)
    case inUse(String)
    public var description: String {
      switch self {
      case .notAFolder(let path): "\(path) is not a folder, and cannot be made one"
      case .inUse(let path): "another edge-sql node serves the databases in \(path)"
      }
    }
  }

  public let path: String
  private let lock: DiskFile

  private static let databaseEnd = ".db"
  private static let droppedEnd = ".dropped"
  private static let forkingEnd = ".forking"
  private static let incomingEnd = ".db-incoming"
  private static let lockName = ".edge-sql-lock"
  private static let identityName = ".edge-sql-catalogue"

  /// Takes the folder, which is made if need be, and finishes what a crash cut off.
  public init(path: String) throws {
    self.path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard Disk.isFolder(path) || mkdir(path, 0o700) == 0 else { throw Failure.notAFolder(path) }
    lock = try DiskFile(
      path: "\(self.path)/\(Self.lockName)", mode: .create, operation: .openCopy)
    guard lock.lock() else { throw Failure.inUse(path) }
    for file in Disk.names(in: self.path) {
      if let name = Self.name(file, Self.droppedEnd) { try finishDrop(name) }
      if Self.name(file, Self.forkingEnd) != nil { try Disk.remove("\(self.path)/\(file)") }
    }
  }

  /// Gives the folder back, once nothing in it is open.
  public func leave() { lock.unlock() }

  /// The databases that are there now.
  public func names() -> [DatabaseName] {
    Disk.names(in: path).compactMap { file in
      guard let name = Self.name(file, Self.databaseEnd), contains(name) else { return nil }
      return name
    }
  }

  /// Databases of which there is no more than a part of a first copy.
  public func incompleteNames() -> [DatabaseName] {
    Disk.names(in: path).compactMap { file in
      guard let name = Self.name(file, Self.incomingEnd), !contains(name) else { return nil }
      return name
    }
  }

  /// Which folder this is, or is a copy of: a replica does not follow another one, which would have
  /// it remove what it holds. Nil before it was noted.
  public var identity: DatabaseID? {
    guard let bytes = try? Disk.readPrefix(of: "\(path)/\(Self.identityName)", count: 32) else {
      return nil
    }
    return DatabaseID(String(decoding: bytes, as: UTF8.self))
  }

  /// Notes which folder this is, durably.
  public func adopt(_ identity: DatabaseID) throws(DiskError) {
    try Disk.replace(
      "\(path)/\(Self.identityName)", with: Array("\(identity)\n".utf8))
  }

  /// Removes all databases and what is known of them.
  public func removeAll() throws(DiskError) {
    for name in names() + incompleteNames() { try drop(name) }
    try Disk.remove("\(path)/\(Self.identityName)")
  }

  public func contains(_ name: DatabaseName) -> Bool { Disk.isRegularFile(databasePath(name)) }

  public func databasePath(_ name: DatabaseName) -> String { file(name, Self.databaseEnd) }

  private func file(_ name: DatabaseName, _ end: String) -> String { "\(path)/\(name)\(end)" }

  private static func name(_ file: String, _ end: String) -> DatabaseName? {
    file.hasSuffix(end) ? DatabaseName(file.dropLast(end.utf8.count)) : nil
  }

  // MARK: Drop

  /// Removes a database that nobody has open, with all that lies beside it. Once this returns it
  /// stays removed.
  public func drop(_ name: DatabaseName) throws(DiskError) {
    if contains(name) {
      try Disk.rename(databasePath(name), to: file(name, Self.droppedEnd))
    }
    try finishDrop(name)
  }

  private func finishDrop(_ name: DatabaseName) throws(DiskError) {
    let database = "\(name)\(Self.databaseEnd)"
    if !contains(name) {
      // No other database's files begin so: names have no point in them.
      for file in Disk.names(in: path) where file.hasPrefix(database) {
        try Disk.remove("\(path)/\(file)")
      }
      try Disk.syncDirectory(of: databasePath(name))
    }
    try Disk.remove(file(name, Self.droppedEnd))
  }

  // MARK: Fork

  /// Writes an open database as it is at one moment into the file of a new one, which knows nothing
  /// of where it comes from.
  ///
  /// - Returns: the position that was copied.
  /// - Throws: `SQLITE_BUSY` when commits came too densely, `SQLiteError`, `DiskError`; then nothing
  ///   is left behind.
  public func fork(
    _ source: DatabaseName, pageSize: PageSize, map: PageMapFile, tracker: PositionTracker,
    to name: DatabaseName
  ) throws -> Position {
    let part = file(name, Self.forkingEnd)
    do {
      let reader = try SnapshotReader(
        path: databasePath(source), pageSize: pageSize, tracker: tracker)
      let snapshot = try reader.begin(following: map)
      defer { reader.end() }
      try Disk.remove(part)
      let file = try DiskFile(path: part, mode: .create, operation: .openCopy)
      for number in 0..<snapshot.pageCount where Pgno(number + 1) != pageSize.lockPage {
        let pgno = Pgno(number + 1)
        try file.write(try reader.read(pgno), at: pgno.index * pageSize.bytes, .writeCopy)
      }
      try file.sync(.syncCopy)
      try Disk.rename(part, to: databasePath(name))
      return snapshot.position
    } catch {
      try? Disk.remove(part)
      throw error
    }
  }
}

extension Disk {
  static func isFolder(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
  }
}
