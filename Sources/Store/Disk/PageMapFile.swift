// The page map on disk: a shared mapping, so that what was written survives the end of the process.
// What must survive a power loss is made durable by `saveBase`, before the WAL that could rebuild it
// is reset. Format: docs/FORMAT.md

import Glibc
import Synchronization
import WALShip

/// The page map of one database. Safe to use from any thread.
public final class PageMapFile: @unchecked Sendable {  // all under `lock`
  public let path: String
  public var identity: PageMapIdentity { lock.withLock { _ in identityRecord } }
  private var identityRecord: PageMapIdentity
  private let file: DiskFile
  private let lock = Mutex<Void>(())
  private var mapping: UnsafeMutableRawPointer
  private var mappedBytes: Int
  private(set) var capacity: Int
  private var baseRecord: PageMapBase
  private var liveRecord: PageMapLive

  /// Pages that the file grows by at a time.
  private static let growth = 4096

  /// Makes an empty map, in place of any that is there.
  public init(
    creating path: String, identity: PageMapIdentity, history: EpochHistory
  ) throws(DiskError) {
    self.path = path
    identityRecord = identity
    try Disk.remove(path)
    file = try DiskFile(path: path, mode: .create, operation: .openPageMap)
    capacity = Self.growth
    mappedBytes = PageMapLayout.fileBytes(pages: capacity)
    try file.allocate(size: mappedBytes, .growPageMap)
    mapping = try Self.map(file, bytes: mappedBytes)
    let nowhere = LogPlace(salts: Salts(first: 0, second: 0), frame: 0)
    baseRecord = PageMapBase(
      sequence: 0, history: history, txid: .zero, checksum: .empty, place: nowhere, pageCount: 0,
      isClean: false)
    liveRecord = PageMapLive(
      sequence: 0, txid: .zero, checksum: .empty, place: nowhere, pageCount: 0)
    identity.encode(into: UnsafeMutableRawBufferPointer(start: mapping, count: 64))
    try saveBase(baseRecord)
    try Disk.syncDirectory(of: path)
  }

  /// Opens a map that is there.
  ///
  /// - Throws: `DiskError`, `PageMapIdentity.Failure`; a damaged map must be built again from the
  ///   database.
  public init(opening path: String) throws {
    self.path = path
    file = try DiskFile(path: path, mode: .readWrite, operation: .openPageMap)
    let size = file.size
    guard size >= PageMapLayout.headerBytes else { throw PageMapIdentity.Failure.notAPageMap }
    capacity = (size - PageMapLayout.headerBytes) / PageMapEntry.byteCount
    mappedBytes = size
    mapping = try Self.map(file, bytes: size)
    let bytes = UnsafeRawBufferPointer(start: mapping, count: size)
    func slot(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }
    do {
      identityRecord = try PageMapIdentity(decoding: slot(0, PageMapIdentity.byteCount))
      let bases = PageMapLayout.baseOffsets.compactMap {
        PageMapBase(decoding: slot($0, PageMapBase.byteCount))
      }
      guard let base = bases.max(by: { $0.sequence < $1.sequence }), base.pageCount <= capacity
      else {
        throw PageMapIdentity.Failure.notAPageMap
      }
      let lives = PageMapLayout.liveOffsets.compactMap {
        PageMapLive(decoding: slot($0, PageMapLive.byteCount))
      }
      baseRecord = base
      let fallback = PageMapLive(
        sequence: 0, txid: base.txid, checksum: base.checksum, place: base.place,
        pageCount: base.pageCount)
      let live = lives.max { $0.sequence < $1.sequence } ?? fallback
      liveRecord = live.pageCount <= capacity ? live : fallback
    } catch {
      munmap(mapping, mappedBytes)
      throw error
    }
  }

  deinit { munmap(mapping, mappedBytes) }

  private static func map(_ file: DiskFile, bytes: Int) throws(DiskError) -> UnsafeMutableRawPointer
  {
    try DiskFaults.check(.mapPageMap, file.path)
    guard
      let pointer = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor, 0),
      pointer != MAP_FAILED
    else { throw DiskError(operation: .mapPageMap, errorNumber: errno, path: file.path) }
    return pointer
  }

  // MARK: Records

  public var base: PageMapBase { lock.withLock { _ in baseRecord } }
  public var live: PageMapLive { lock.withLock { _ in liveRecord } }
  /// True when no power loss can have come between the last write to this map and now.
  public var isOfThisBoot: Bool {
    let present = Self.bootID(of: path)
    return !present.isEmpty && base.bootID == present
  }

  /// Makes every entry durable, then the record that says what they stand for.
  ///
  /// Call it before the WAL that holds the transactions up to `base` may be reset.
  public func saveBase(_ base: PageMapBase) throws(DiskError) {
    try saveBase { record in
      // Whoever read the record before another one changed it must not take that back.
      let superseding = max(record.superseding, base.superseding)
      let former = record.history
      record = base
      record.superseding = superseding
      if former.current > base.history.current { record.history = former }
    }
  }

  private func saveBase(_ change: (inout PageMapBase) -> Void) throws(DiskError) {
    let result: Result<Void, DiskError> = lock.withLock { _ in
      do throws(DiskError) {
        try sync()
        var record = baseRecord
        change(&record)
        record.sequence = baseRecord.sequence + 1
        record.bootID = Self.bootID(of: path)
        let offset = PageMapLayout.baseOffsets[Int(record.sequence & 1)]
        record.encode(into: UnsafeMutableRawBufferPointer(start: mapping + offset, count: 512))
        try sync()
        baseRecord = record
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Notes that the database changes from now on, after an orderly stop.
  func noteOpen() throws(DiskError) {
    if base.isClean { try saveBase { $0.isClean = false } }
  }

  /// Notes that another primary has begun a later epoch; it stays noted.
  public func supersede(by epoch: Epoch) throws(DiskError) {
    try saveBase { $0.superseding = epoch }
  }

  /// Replaces the identity, which a replica may learn late.
  func adopt(_ identity: PageMapIdentity) throws(DiskError) {
    lock.withLock { _ in
      identityRecord = identity
      identity.encode(into: UnsafeMutableRawBufferPointer(start: mapping, count: 64))
    }
    try saveBase(base)
  }

  private func sync() throws(DiskError) {
    try DiskFaults.check(.syncPageMap, path)
    guard msync(mapping, mappedBytes, MS_SYNC) == 0 else {
      throw DiskError(operation: .syncPageMap, errorNumber: errno, path: path)
    }
  }

  // MARK: Entries

  public func entry(_ pgno: Pgno) -> PageMapEntry {
    lock.withLock { _ in
      pgno.index < min(capacity, Int(liveRecord.pageCount)) ? load(pgno) : .absent
    }
  }

  /// The entries of `count` pages from `first` on.
  public func entries(from first: Pgno, count: Int) -> [PageMapEntry] {
    lock.withLock { _ in
      (first.index..<first.index + count).map {
        $0 < capacity ? load(Pgno(UInt32($0 + 1))) : .absent
      }
    }
  }

  /// Changes entries and then the live record, as one step for all other users of the map.
  public func update<T>(_ body: (inout Editor) throws -> T) throws -> T {
    try lock.withLock { _ in
      var editor = Editor(map: self, live: liveRecord)
      let result = try body(&editor)
      if editor.live != liveRecord {
        editor.live.sequence = liveRecord.sequence + 1
        liveRecord = editor.live
        let offset = PageMapLayout.liveOffsets[Int(liveRecord.sequence & 1)]
        liveRecord.encode(into: UnsafeMutableRawBufferPointer(start: mapping + offset, count: 64))
      }
      return result
    }
  }

  /// Makes room for the entries of so many pages, so that noting them cannot fail.
  ///
  /// - Throws: `DiskError` when the disk is full; nothing was changed.
  public func reserve(pages: Int) throws(DiskError) {
    let result: Result<Void, DiskError> = lock.withLock { _ in
      do throws(DiskError) {
        if pages > capacity { try grow(to: pages) }
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// The pages after `cursor` that changed after `txid`, at most `limit`, in order, looking at
  /// `scan` pages at most.
  ///
  /// - Parameter orAbsent: those without an entry as well: a snapshot can have pages that the map
  ///   has lost since to a transaction that made the database smaller.
  /// - Returns: the pages, and the page after which to go on; nil when the end was reached.
  public func changedPages(
    since txid: TXID, orAbsent: Bool = false, after cursor: UInt32, through last: UInt32,
    limit: Int, scan: Int = 65536
  ) -> (pages: [Pgno], cursor: UInt32?) {
    pages(after: cursor, through: last, limit: limit, scan: scan) {
      $1.txid > txid || orAbsent && $1 == .absent
    }
  }

  /// The pages that a follower lacks, likewise.
  public func differingPages(
    from follower: FollowerPages, after cursor: UInt32, through last: UInt32, limit: Int,
    scan: Int = 65536
  ) -> (pages: [Pgno], cursor: UInt32?) {
    pages(after: cursor, through: last, limit: limit, scan: scan, where: follower.lacks)
  }

  private func pages(
    after cursor: UInt32, through last: UInt32, limit: Int, scan: Int,
    where isWanted: (Pgno, PageMapEntry) -> Bool
  ) -> (pages: [Pgno], cursor: UInt32?) {
    lock.withLock { _ in
      var pages: [Pgno] = []
      var number = cursor
      let end = min(last, UInt32(clamping: Int(cursor) + scan))
      while number < end {
        number += 1
        guard Int(number) <= capacity else { break }
        if isWanted(Pgno(number), load(Pgno(number))) {
          pages.append(Pgno(number))
          if pages.count >= limit { break }
        }
      }
      return (pages, number >= last || Int(number) > capacity ? nil : number)
    }
  }

  /// Recomputes what the checksums of all pages add up to.
  public func checksumOfEntries(pageCount: UInt32) -> DatabaseChecksum {
    lock.withLock { _ in sumOfEntries(pageCount: pageCount, from: .empty) }
  }

  func sumOfEntries(pageCount: UInt32, from start: DatabaseChecksum) -> DatabaseChecksum {
    var sum = start
    for index in 0..<min(Int(pageCount), capacity) {
      sum.toggle(load(Pgno(UInt32(index + 1))).checksum)
    }
    return sum
  }

  /// How the sum of the entries differs from the checksum of the database: `.empty` when all is well.
  public var imbalance: DatabaseChecksum {
    lock.withLock { _ in
      sumOfEntries(pageCount: liveRecord.pageCount, from: liveRecord.checksum)
    }
  }

  /// Takes the sum of the entries as the checksum of the database, after all of them were found to be
  /// right. Both are kept up to date apart from each other, so the one tells of damage to the other.
  ///
  /// - Returns: whether it was another one.
  public func balance() throws -> Bool {
    try update { editor in
      let former = editor.live.checksum
      editor.balance()
      return editor.live.checksum != former
    }
  }

  /// Corrects damaged entries, whose pages were found to be right.
  ///
  /// - Returns: false when these entries are not what is wrong with the map; nothing was changed.
  public func mend(_ wrong: [WrongPage]) -> Bool {
    lock.withLock { _ in
      var sum = sumOfEntries(pageCount: liveRecord.pageCount, from: liveRecord.checksum)
      for page in wrong {
        guard page.pgno.index < capacity, load(page.pgno) == page.entry else { return false }
        sum.toggle(page.entry.checksum ^ page.found)
      }
      guard sum == .empty else { return false }
      for page in wrong {
        store(page.pgno, PageMapEntry(txid: page.entry.txid, checksum: page.found))
      }
      return true
    }
  }

  func load(_ pgno: Pgno) -> PageMapEntry {
    let pointer = mapping + PageMapLayout.entryOffset(pgno)
    return PageMapEntry(
      txid: TXID(pointer.load(as: UInt64.self)),
      checksum: pointer.load(fromByteOffset: 8, as: UInt64.self))
  }

  func store(_ pgno: Pgno, _ entry: PageMapEntry) {
    let pointer = mapping + PageMapLayout.entryOffset(pgno)
    pointer.storeBytes(of: entry.txid.rawValue, as: UInt64.self)
    pointer.storeBytes(of: entry.checksum, toByteOffset: 8, as: UInt64.self)
  }

  func grow(to pages: Int) throws(DiskError) {
    let wanted = (pages + pages / 8 + Self.growth - 1) / Self.growth * Self.growth
    let bytes = PageMapLayout.fileBytes(pages: wanted)
    try file.allocate(size: bytes, .growPageMap)
    let pointer = try Self.map(file, bytes: bytes)
    munmap(mapping, mappedBytes)
    mapping = pointer
    mappedBytes = bytes
    capacity = wanted
  }
}
