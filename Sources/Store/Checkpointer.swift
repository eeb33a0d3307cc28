// Keeps the WAL of a primary bounded without ever losing a frame that was not captured.
//
// SQLite lets any writer begin the WAL anew once all of its frames are in the file. So the engine
// holds the checkpoint lock for life: nobody else can copy frames, and it says how many are copied
// only after they were captured and the page map is durable. It cannot use SQLite's own checkpoint
// for that, which gives the lock back at its end: a program that waits with a TRUNCATE would get in
// between. The steps are SQLite's: https://www.sqlite.org/walformat.html

import WALShip

/// The only checkpointer of a primary's database. It is used by one thread at a time.
public final class Checkpointer {
  private let path: String
  private let connection: Connection
  private let index: WALIndex
  private let log: LogFile
  private let map: PageMapFile
  private var holdsLock = false

  public struct Outcome: Equatable, Sendable {
    public var frames: UInt32
    public var copied: UInt32
  }

  init(path: String, map: PageMapFile) throws {
    self.path = path
    connection = try Connection(path: path, mode: .readWrite)
    connection.setBusyTimeout(milliseconds: 1000)
    connection.keepLog()
    _ = try connection.query("SELECT rootpage FROM sqlite_schema LIMIT 1")
    index = try WALIndex(connection: connection)
    log = try LogFile(databasePath: path, pageSize: map.identity.pageSize, writable: true)
    self.map = map
  }

  deinit { if holdsLock { index.unlockExclusive(WALIndex.Lock.checkpoint.rawValue) } }

  /// Takes the checkpoint lock, for life. Returns false while another program's checkpoint runs.
  func takeLock() -> Bool {
    if !holdsLock { holdsLock = index.tryLockExclusive(WALIndex.Lock.checkpoint.rawValue) }
    return holdsLock
  }

  /// Copies frames into the file, as far as readers allow.
  ///
  /// - Parameter captured: brings capture up to at least the given place and says what is captured
  ///   then.
  public func run(
    isClean: Bool = false, captured: (LogPlace) throws -> PageMapLive
  ) throws -> Outcome {
    precondition(holdsLock, "the checkpoint lock is not held")
    guard let (header, done) = state() else { return Outcome(frames: 0, copied: 0) }
    let last = safeFrame(header)
    if last > done { try copy(after: done, through: last, header) }
    let live = try captured(LogPlace(salts: header.salts, frame: max(last, done)))
    try saveBase(live, isClean: isClean)
    // Now, and not before, a writer may begin the WAL anew.
    if last > done { index.backfilled = last }
    return Outcome(frames: header.frameCount, copied: max(last, done))
  }

  /// The header and how many of its frames are copied, of the same generation.
  ///
  /// A WAL that is copied as a whole can begin anew at any moment; one that is not, cannot. SQLite
  /// publishes the salts of a new generation with no frames in it, then the count of copied ones.
  private func state() -> (WALIndexHeader, copied: UInt32)? {
    for _ in 0..<1000 {
      guard let before = index.header() else { return nil }
      let copied = index.backfilled
      guard let after = index.header(), after.salts == before.salts else { continue }
      return (before, before.frameCount == 0 ? 0 : min(copied, before.frameCount))
    }
    return nil
  }

  /// The last frame that no reader stands before.
  private func safeFrame(_ header: WALIndexHeader) -> UInt32 {
    var last = header.frameCount
    for slot in 1...4 {
      let mark = index.readMark(slot)
      guard last > mark else { continue }
      let lock = WALIndex.Lock.reader0.rawValue + Int32(slot)
      if index.tryLockExclusive(lock) {
        index.setReadMark(slot, slot == 1 ? last : WALIndex.readMarkUnused)
        index.unlockExclusive(lock)
      } else {
        last = mark
      }
    }
    return last
  }

  /// Writes the newest version of each page among some frames into the file.
  private func copy(after done: UInt32, through last: UInt32, _ header: WALIndexHeader) throws {
    // Readers that use the file alone keep this slot: their pages must not change.
    let readers = WALIndex.Lock.reader0.rawValue
    guard index.tryLockExclusive(readers) else {
      throw SQLiteError(code: SQLiteError.busy, message: "readers use the file alone")
    }
    defer { index.unlockExclusive(readers) }
    index.backfillAttempted = last
    try log.file.sync(.syncLog)
    let page = PageMemory(bytes: log.pageSize)
    for (pgno, frame) in try newestFrames(after: done, through: last)
    where pgno <= header.pageCount {
      try log.readPage(of: frame, into: page.bytes)
      try index.writeDatabase(page.readOnly, at: Pgno(pgno).index * log.pageSize)
    }
    if last == header.frameCount {
      try index.truncateDatabase(to: Int(header.pageCount) * log.pageSize)
    }
    try index.syncDatabase()
  }

  /// The frames to copy, in the order of their pages.
  private func newestFrames(
    after done: UInt32, through last: UInt32
  ) throws -> [(pgno: UInt32, frame: UInt32)] {
    var newest: [UInt32: UInt32] = [:]
    for frame in done + 1...last { newest[try index.page(of: frame)] = frame }
    return newest.map { (pgno: $0.key, frame: $0.value) }.sorted { $0.pgno < $1.pgno }
  }

  private func saveBase(_ live: PageMapLive, isClean: Bool) throws {
    var base = map.base
    base.txid = live.txid
    base.checksum = live.checksum
    base.place = live.place
    base.pageCount = live.pageCount
    base.isClean = isClean
    base.changeCounter = try fileChangeCounter()
    base.fileNumber = Disk.fileNumber(path)
    try map.saveBase(base)
  }

  func fileChangeCounter() throws -> UInt32 {
    let header = PageMemory(bytes: 512)
    try index.readDatabase(into: header.bytes, at: 0)
    return UInt32(bigEndian: header.bytes.load(fromByteOffset: 24, as: UInt32.self))
  }
}
