// The wal-index that all connections to a database share, seen through SQLite's own mapping of it.
// Layout and locks: https://www.sqlite.org/walformat.html#the_wal_index_file_format

import CSQLite
import WALShip

/// The shared-memory index of a WAL: its header, where each page's newest frame is, and its locks.
///
/// The mapping belongs to `connection`, which must outlive this object. Reading is possible on any
/// thread; whoever writes must hold `Lock.write`.
final class WALIndex: @unchecked Sendable {  // atomic loads, checksums
  static let blockBytes = 32768
  /// Frames that the first block, which also holds the header, and each later block can name.
  static let firstBlockFrames = 4062
  static let blockFrames = 4096
  static let hashSlots = 8192
  private static let firstBlockPages = 136

  enum Lock: Int32 {
    case write = 0, checkpoint = 1, recover = 2, reader0 = 3, reader1 = 4, reader4 = 7
  }

  private let file: UnsafeMutablePointer<sqlite3_file>
  private let methods: UnsafePointer<sqlite3_io_methods>
  /// The first block's address never changes while the connection is open.
  private let first: UnsafeMutableRawPointer
  private let connection: Connection

  /// - Throws: `SQLITE_PROTOCOL` when the connection has not opened a WAL; run a query first.
  init(connection: Connection) throws(SQLiteError) {
    self.connection = connection
    file = try connection.mainFile()
    guard let methods = file.pointee.pMethods, methods.pointee.iVersion >= 2 else {
      throw SQLiteError(code: SQLITE_PROTOCOL, message: "this file system offers no shared memory")
    }
    self.methods = methods
    first = try Self.map(file, methods, block: 0, extend: true)
  }

  private static func map(
    _ file: UnsafeMutablePointer<sqlite3_file>, _ methods: UnsafePointer<sqlite3_io_methods>,
    block: Int, extend: Bool
  ) throws(SQLiteError) -> UnsafeMutableRawPointer {
    var pointer: UnsafeMutableRawPointer?
    let code = withUnsafeMutablePointer(to: &pointer) {
      $0.withMemoryRebound(to: Optional<UnsafeMutableRawPointer>.self, capacity: 1) { slot in
        methods.pointee.xShmMap(file, Int32(block), Int32(blockBytes), extend ? 1 : 0, slot)
      }
    }
    guard code == SQLITE_OK, let pointer else {
      throw SQLiteError(
        code: code == SQLITE_OK ? SQLITE_PROTOCOL : code, message: "the wal-index cannot be mapped")
    }
    return pointer
  }

  func block(_ number: Int, extend: Bool = false) throws(SQLiteError) -> UnsafeMutableRawPointer {
    number == 0 ? first : try Self.map(file, methods, block: number, extend: extend)
  }

  // MARK: Header

  /// The header, or nil when both tries to read it met a writer in the middle of it.
  func header() -> WALIndexHeader? {
    for _ in 0..<1000 {
      guard let one = WALIndexHeader(at: first) else { continue }
      edge_fence()
      guard let two = WALIndexHeader(at: first + WALIndexHeader.byteCount), one == two else {
        continue
      }
      return one
    }
    return nil
  }

  /// Publishes a header: whoever opens a read transaction from now on sees it.
  func publish(_ header: WALIndexHeader) {
    let words = header.words
    for (index, word) in words.enumerated() {
      edge_store_u32(first + WALIndexHeader.byteCount + index * 4, word)
    }
    methods.pointee.xShmBarrier(file)
    edge_fence()
    for (index, word) in words.enumerated() { edge_store_u32(first + index * 4, word) }
    edge_fence()
  }

  /// Completes a header whose writer died between its two copies. SQLite would read the whole WAL
  /// again, but needs the checkpoint lock for it, which a primary never gives away.
  ///
  /// The second copy is written first: where it is whole, it is the newer one. Where it is not, its
  /// commit was never visible.
  ///
  /// - Returns: false when a writer is alive, or neither copy is whole.
  func mendHeader() -> Bool {
    guard tryLockExclusive(Lock.write.rawValue) else { return false }
    defer { unlockExclusive(Lock.write.rawValue) }
    if header() != nil { return true }
    let copies = [WALIndexHeader.byteCount, 0].map { first + $0 }
    guard let whole = copies.lazy.compactMap({ WALIndexHeader(at: $0) }).first else { return false }
    publish(whole)
    return true
  }

  // MARK: Checkpoint state

  /// Frames that a checkpoint has copied into the file.
  var backfilled: UInt32 {
    get { edge_load_u32(first + 96) }
    set { edge_store_u32(first + 96, newValue) }
  }

  /// Frames that a checkpoint may be copying: from here on the file can hold newer pages.
  var backfillAttempted: UInt32 {
    get { edge_load_u32(first + 128) }
    set { edge_store_u32(first + 128, newValue) }
  }

  static let readMarkUnused: UInt32 = 0xffff_ffff
  func setReadMark(_ slot: Int, _ value: UInt32) { edge_store_u32(first + 100 + slot * 4, value) }
  func readMark(_ slot: Int) -> UInt32 { edge_load_u32(first + 100 + slot * 4) }

  // MARK: Locks

  /// Takes a lock without waiting. Returns false when somebody else holds it.
  func tryLockExclusive(_ lock: Int32, count: Int32 = 1) -> Bool {
    methods.pointee.xShmLock(file, lock, count, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) == SQLITE_OK
  }

  func unlockExclusive(_ lock: Int32, count: Int32 = 1) {
    _ = methods.pointee.xShmLock(file, lock, count, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE)
  }

  // MARK: Pages

  static func block(of frame: UInt32) -> Int {
    (Int(frame) + blockFrames - firstBlockFrames - 1) / blockFrames
  }

  /// The frame before the first one of a block.
  static func zeroFrame(of block: Int) -> Int {
    block == 0 ? 0 : firstBlockFrames + (block - 1) * blockFrames
  }

  private func pages(_ block: Int, _ base: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    block == 0 ? base + Self.firstBlockPages : base
  }

  private static func slot(of pgno: UInt32) -> Int { Int(pgno &* 383) & (hashSlots - 1) }

  /// The newest frame of a page among the frames `first...last`.
  ///
  /// - Throws: `SQLITE_CORRUPT` when the hash table has no free slot.
  func frame(of pgno: Pgno, from first: UInt32 = 1, through last: UInt32) throws(SQLiteError)
    -> UInt32?
  {
    guard last > 0, first <= last else { return nil }
    var number = Self.block(of: last)
    let lowest = Self.block(of: first)
    while number >= lowest {
      let base = try block(number)
      let pageNumbers = pages(number, base)
      let hash = base + 16384
      let zero = Self.zeroFrame(of: number)
      var slot = Self.slot(of: pgno.rawValue)
      var found: UInt32?
      var left = Self.hashSlots
      while true {
        let entry = Int(edge_load_u16(hash + slot * 2))
        guard entry != 0 else { break }
        let frame = UInt32(zero + entry)
        if frame <= last, frame >= first,
          edge_load_u32(pageNumbers + (entry - 1) * 4) == pgno.rawValue
        {
          found = frame
        }
        left -= 1
        guard left > 0 else {
          throw SQLiteError(code: SQLITE_CORRUPT, message: "the wal-index has a full hash table")
        }
        slot = (slot + 1) & (Self.hashSlots - 1)
      }
      if let found { return found }
      number -= 1
    }
    return nil
  }

  /// The page that a frame holds.
  func page(of frame: UInt32) throws(SQLiteError) -> UInt32 {
    let number = Self.block(of: frame)
    let base = try block(number)
    let entry = Int(frame) - Self.zeroFrame(of: number)
    return edge_load_u32(pages(number, base) + (entry - 1) * 4)
  }

  /// Names the page of a new frame. Readers do not look at it before the header counts it.
  func append(frame: UInt32, pgno: Pgno) throws(SQLiteError) {
    let number = Self.block(of: frame)
    let base = try block(number, extend: true)
    let pageNumbers = pages(number, base)
    let hash = base + 16384
    let entry = Int(frame) - Self.zeroFrame(of: number)
    if entry == 1 {
      let pageBytes = number == 0 ? Self.firstBlockFrames * 4 : Self.blockFrames * 4
      pageNumbers.initializeMemory(as: UInt8.self, repeating: 0, count: pageBytes)
      hash.initializeMemory(as: UInt8.self, repeating: 0, count: Self.hashSlots * 2)
    } else if edge_load_u32(pageNumbers + (entry - 1) * 4) != 0 {
      cleanUp(block: number, base: base, keeping: Int(frame) - 1 - Self.zeroFrame(of: number))
    }
    var slot = Self.slot(of: pgno.rawValue)
    var left = Self.hashSlots
    while edge_load_u16(hash + slot * 2) != 0 {
      left -= 1
      guard left > 0 else {
        throw SQLiteError(code: SQLITE_CORRUPT, message: "the wal-index has a full hash table")
      }
      slot = (slot + 1) & (Self.hashSlots - 1)
    }
    edge_store_u32(pageNumbers + (entry - 1) * 4, pgno.rawValue)
    edge_store_u16(hash + slot * 2, UInt16(entry))
  }

  /// Forgets what a writer left behind that died before it published its frames.
  private func cleanUp(block number: Int, base: UnsafeMutableRawPointer, keeping count: Int) {
    let hash = base + 16384
    for slot in 0..<Self.hashSlots where Int(edge_load_u16(hash + slot * 2)) > count {
      edge_store_u16(hash + slot * 2, 0)
    }
    let pageNumbers = pages(number, base)
    let capacity = number == 0 ? Self.firstBlockFrames : Self.blockFrames
    (pageNumbers + count * 4).initializeMemory(
      as: UInt8.self, repeating: 0, count: (capacity - count) * 4)
  }

  // MARK: The database file, through SQLite's handle

  /// Reads a page of the database file itself. Bytes beyond its end are zeros.
  func readDatabase(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SQLiteError)
  {
    let code = methods.pointee.xRead(file, buffer.baseAddress, Int32(buffer.count), Int64(offset))
    guard code == SQLITE_OK || code == SQLITE_IOERR | 2 << 8 else {
      throw SQLiteError(code: code, message: "the database file cannot be read")
    }
  }

  /// Writes a page of the database file itself: what a checkpoint does.
  func writeDatabase(_ page: UnsafeRawBufferPointer, at offset: Int) throws(SQLiteError) {
    try check(
      methods.pointee.xWrite(file, page.baseAddress, Int32(page.count), Int64(offset)),
      "the database file cannot be written")
  }

  func truncateDatabase(to bytes: Int) throws(SQLiteError) {
    var size: Int64 = 0
    try check(methods.pointee.xFileSize(file, &size), "the database file's size cannot be read")
    guard size > Int64(bytes) else { return }
    try check(methods.pointee.xTruncate(file, Int64(bytes)), "the database file cannot be cut")
  }

  func syncDatabase() throws(SQLiteError) {
    try check(methods.pointee.xSync(file, SQLITE_SYNC_NORMAL), "the database file cannot be synced")
  }

  private func check(_ code: Int32, _ message: String) throws(SQLiteError) {
    guard code == SQLITE_OK else { throw SQLiteError(code: code, message: message) }
  }
}
