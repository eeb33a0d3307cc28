// A copy of a database in the making, a replica's first one or a backup: pages go straight into a
// plain file, and only when all of them are there and add up does the file get the database's name.
// A replica's copy that was cut off goes on where it was.

import WALShip

/// A copy in progress. It belongs to one thread, a replica's to that of the applier.
public final class ReplicaCopy {
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case inUse(String)
    public var description: String {
      switch self {
      case .inUse(let path): "another process is making a copy at \(path)"
      }
    }
  }

  public let path: String
  public let map: PageMapFile
  /// Nil once the copy is complete. The descriptor must be closed before SQLite opens the file:
  /// closing it later would drop the locks that SQLite holds on it.
  private var file: DiskFile?
  private let pageSize: Int
  /// Bytes since the kernel was last told to write.
  private var unwrittenBytes = 0
  private static let writebackBytes = 8 << 20

  private static func filePath(_ path: String) -> String { path + "-incoming" }
  private static func mapPath(_ path: String) -> String { path + "-incoming-pagemap" }

  /// Goes on with the copy that is there; nil when there is none.
  ///
  /// - Throws: `Failure.inUse`, `DiskError`.
  public init?(resuming path: String) throws {
    guard Disk.exists(Self.filePath(path)),
      let map = try? PageMapFile(opening: Self.mapPath(path))
    else { return nil }
    self.path = path
    self.map = map
    pageSize = map.identity.pageSize.bytes
    file = try Self.open(path, .readWrite)
    try verify()
  }

  /// Begins a copy, in place of one that was cut off.
  ///
  /// - Throws: `Failure.inUse`, `DiskError`.
  public init(beginning path: String, identity: PageMapIdentity, history: EpochHistory) throws {
    self.path = path
    pageSize = identity.pageSize.bytes
    let file = try Self.open(path, .create)
    try file.truncate(to: 0, .truncateCopy)
    self.file = file
    do {
      map = try PageMapFile(
        creating: Self.mapPath(path), identity: identity, history: history)
    } catch {
      Self.removeFiles(of: path)
      throw error
    }
  }

  /// Opens the file for this process alone: two copies that write to one file would end as neither.
  private static func open(_ path: String, _ mode: DiskFile.Mode) throws -> DiskFile {
    let file = try DiskFile(path: filePath(path), mode: mode, operation: .openCopy)
    guard file.lock() else { throw Failure.inUse(path) }
    return file
  }

  /// A power loss may have taken pages that the map speaks of: believe only what can be read back.
  private func verify() throws {
    guard let file else { return }
    let page = PageMemory(bytes: pageSize)
    let count = UInt32(clamping: file.size / pageSize)
    try map.update { editor in
      editor.live.checksum = .empty
      editor.live.pageCount = count
      for number in 1...max(1, count) where number <= count {
        let pgno = Pgno(number)
        let entry = editor.entry(pgno)
        guard entry.txid != .zero else { continue }
        let read = try file.read(into: page.bytes, at: pgno.index * pageSize, .readCopy)
        let isWhole = read == pageSize && pageChecksum(page.readOnly, pgno: pgno) == entry.checksum
        if isWhole {
          editor.live.checksum.toggle(entry.checksum)
        } else {
          editor.correct(pgno, to: .absent)
        }
      }
      editor.clear(beyond: count)
    }
  }

  /// The checksums of the pages that are here.
  public var checksums: [UInt64] {
    map.entries(from: Pgno(1), count: Int(map.live.pageCount)).map(\.checksum)
  }

  public func write(_ pgno: Pgno, _ page: UnsafeRawBufferPointer, txid: TXID) throws {
    guard let file else { preconditionFailure("the copy is complete") }
    try file.write(page, at: pgno.index * pageSize, .writeCopy)
    try map.update { editor in
      try editor.set(pgno, PageMapEntry(txid: txid, checksum: pageChecksum(page, pgno: pgno)))
      editor.live.pageCount = max(editor.live.pageCount, pgno.rawValue)
    }
    // The disk is busy while pages arrive, and not only at the end.
    unwrittenBytes += page.count
    guard unwrittenBytes >= Self.writebackBytes else { return }
    unwrittenBytes = 0
    file.beginWriteback()
  }

  /// Ends the copy at a position: the file becomes a replica's database.
  ///
  /// - Returns: false when the pages do not add up; a comparison then finds the wrong ones.
  public func finish(
    at position: Position, history: EpochHistory, pageCount: UInt32
  ) throws -> Bool {
    guard let file = try complete(at: position, pageCount: pageCount) else { return false }
    if pageCount > 0 {
      let page = PageMemory(bytes: pageSize)
      _ = try file.read(into: page.bytes, at: 0, .readCopy)
      PositionStamp(position).write(to: page.bytes)
      try file.write(page.readOnly, at: 0, .writeCopy)
    }
    try file.sync(.syncCopy)
    var base = map.base
    base.history = history
    base.txid = position.txid
    base.checksum = position.checksum
    base.pageCount = pageCount
    try map.saveBase(base)
    self.file = nil
    // Leftovers of a database that is gone would be taken for the new one's.
    try Disk.remove(path + "-wal")
    try Disk.remove(path + "-shm")
    try Disk.rename(Self.mapPath(path), to: ReplicaDatabase.pageMapPath(of: path))
    try Disk.rename(Self.filePath(path), to: path)
    return true
  }

  /// Ends the copy at a position: the file becomes a database of its own, which anybody may write
  /// to, and which knows nothing of the position. What is at `path` is replaced.
  ///
  /// - Returns: false when the pages do not add up; the copy can go on.
  /// - Throws: `DiskError`; what was at `path` may then be gone.
  public func finishPlain(at position: Position, pageCount: UInt32) throws -> Bool {
    guard let file = try complete(at: position, pageCount: pageCount) else { return false }
    try file.sync(.syncCopy)
    try Disk.remove(Self.mapPath(path))
    // A log of a database that was here before would be played into this one.
    for suffix in ["-wal", "-shm", "-journal"] { try Disk.remove(path + suffix) }
    try Disk.remove(ReplicaDatabase.pageMapPath(of: path))
    // The lock is held until the file has its name: nobody may begin a copy in it before.
    try Disk.rename(Self.filePath(path), to: path)
    self.file = nil
    return true
  }

  /// Checks that the pages add up, and gives the file its length.
  ///
  /// - Returns: the file; nil when the pages do not add up.
  private func complete(at position: Position, pageCount: UInt32) throws -> DiskFile? {
    try map.update { editor in
      try editor.resize(to: pageCount)
      editor.live.txid = position.txid
    }
    guard map.live.checksum == position.checksum, let file else { return nil }
    try file.truncate(to: Int(pageCount) * pageSize, .truncateCopy)
    return file
  }

  /// Removes what is there of a copy that is not to be completed.
  public func discard() { Self.removeFiles(of: path) }

  private static func removeFiles(of path: String) {
    try? Disk.remove(filePath(path))
    try? Disk.remove(mapPath(path))
  }
}
