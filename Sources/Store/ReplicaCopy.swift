// The first copy of a database: pages go straight into a plain file, and only when all of them are
// there and add up does the file get the database's name. A copy that was cut off goes on where it
// was.

import WALShip

/// A first copy in progress. It belongs to the applier's thread.
public final class ReplicaCopy {
  public let path: String
  public let map: PageMapFile
  /// Nil once the copy is complete. The descriptor must be closed before SQLite opens the file:
  /// closing it later would drop the locks that SQLite holds on it.
  private var file: DiskFile?
  private let pageSize: Int

  private static func filePath(_ path: String) -> String { path + "-incoming" }
  private static func mapPath(_ path: String) -> String { path + "-incoming-pagemap" }

  /// Begins a copy, or goes on with the one that is there if it is of the same database.
  ///
  /// - Parameter database: the upstream's database; nil to go on with whatever is there.
  public init?(resuming path: String) throws {
    guard Disk.exists(Self.filePath(path)),
      let map = try? PageMapFile(opening: Self.mapPath(path))
    else { return nil }
    self.path = path
    self.map = map
    pageSize = map.identity.pageSize.bytes
    file = try DiskFile(path: Self.filePath(path), mode: .readWrite, operation: .openCopy)
    try verify()
  }

  public init(beginning path: String, identity: PageMapIdentity, history: EpochHistory) throws {
    self.path = path
    pageSize = identity.pageSize.bytes
    try Disk.remove(Self.filePath(path))
    file = try DiskFile(path: Self.filePath(path), mode: .create, operation: .openCopy)
    map = try PageMapFile(
      creating: Self.mapPath(path), identity: identity, history: history)
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
        if isWhole { editor.live.checksum.toggle(entry.checksum) } else { editor.forget(pgno) }
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
      editor.live.pageCount = max(editor.live.pageCount, pgno.rawValue)
      try editor.set(pgno, PageMapEntry(txid: txid, checksum: pageChecksum(page, pgno: pgno)))
    }
  }

  /// Ends the copy at a position: the file becomes the database.
  ///
  /// - Returns: false when the pages do not add up; a comparison then finds the wrong ones.
  public func finish(
    at position: Position, history: EpochHistory, pageCount: UInt32
  ) throws -> Bool {
    try map.update { editor in
      try editor.resize(to: pageCount)
      editor.live.txid = position.txid
    }
    guard map.live.checksum == position.checksum, let file else { return false }
    try file.truncate(to: Int(pageCount) * pageSize, .truncateCopy)
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

  public func discard() {
    try? Disk.remove(Self.filePath(path))
    try? Disk.remove(Self.mapPath(path))
  }
}
