// Copies a WAL into its database file with the engine's own hands, so that the checkpoint lock is
// never given away. SQLite's own checkpoint would give it back at its end: another program that
// waits with a TRUNCATE would get in between, and one that waits for a replica's writer would keep
// the replica from copying. The steps are SQLite's: https://www.sqlite.org/walformat.html

import WALShip

/// What a checkpoint did.
public struct CheckpointOutcome: Equatable, Sendable {
  /// Frames in the WAL, and how many of them are in the file.
  public var frames: UInt32
  public var copied: UInt32
  public var isComplete: Bool { copied == frames }
}

/// The only checkpointer of a database. It is used by one thread at a time.
final class LogCopier {
  private let connection: Connection
  private let index: WALIndex
  private let log: LogFile
  private var holdsLock = false

  init(path: String, pageSize: PageSize) throws {
    connection = try Connection(path: path, mode: .readWrite)
    connection.setBusyTimeout(milliseconds: 1000)
    connection.keepLog()
    connection.ignoreSchema()
    _ = try connection.query(Connection.snapshotProbe)
    index = try WALIndex(connection: connection)
    log = try LogFile(databasePath: path, pageSize: pageSize, writable: true)
  }

  deinit { giveLock() }

  func giveLock() {
    if holdsLock { index.unlockExclusive(WALIndex.Lock.checkpoint.rawValue) }
    holdsLock = false
  }

  // MARK: Locks

  /// Takes the checkpoint lock, for life, waiting for the checkpoint of another program.
  ///
  /// - Returns: false when that took longer than `milliseconds`.
  func takeLock(milliseconds: Int) -> Bool {
    holdsLock =
      holdsLock
      || poll(milliseconds: milliseconds) {
        index.tryLockExclusive(WALIndex.Lock.checkpoint.rawValue)
      }
    return holdsLock
  }

  /// Runs `body` while no program can commit.
  ///
  /// - Returns: nil when others kept the write lock for `milliseconds`.
  func withoutWriters<T>(milliseconds: Int, _ body: () throws -> T) rethrows -> T? {
    let write = WALIndex.Lock.write.rawValue
    guard poll(milliseconds: milliseconds, { index.tryLockExclusive(write) }) else { return nil }
    defer { index.unlockExclusive(write) }
    return try body()
  }

  /// Whether nobody reads from the WAL. Once all of it is copied, new readers take the file alone.
  var isUnread: Bool {
    let readers = WALIndex.Lock.reader1.rawValue
    guard index.tryLockExclusive(readers, count: 4) else { return false }
    index.unlockExclusive(readers, count: 4)
    return true
  }

  /// Tries something about once a millisecond, at least once, until it succeeds or the time is
  /// over.
  func poll(milliseconds: Int, _ attempt: () throws -> Bool) rethrows -> Bool {
    let end = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
    while try !attempt() {
      guard monotonicNanoseconds() < end else { return false }
      pauseThread(microseconds: Self.pauseMicroseconds)
    }
    return true
  }
  private static let pauseMicroseconds = 500

  // MARK: Copying

  /// Copies frames into the file, as far as readers allow.
  ///
  /// - Parameter finish: is told how far the file goes now, before anybody else is: a writer may
  ///   begin the WAL anew as soon as all of it is known to be copied. Called also when there was
  ///   nothing to copy.
  func copy(finish: (LogPlace, _ isNew: Bool) throws -> Void) throws -> CheckpointOutcome {
    precondition(holdsLock, "the checkpoint lock is not held")
    guard let (header, done) = state() else { return CheckpointOutcome(frames: 0, copied: 0) }
    var last = safeFrame(header)
    if last > done, try !copy(after: done, through: last, header) { last = done }
    let copied = max(last, done)
    try finish(LogPlace(salts: header.salts, frame: copied), last > done)
    if last > done { index.backfilled = last }
    return CheckpointOutcome(frames: header.frameCount, copied: copied)
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
  ///
  /// - Returns: false when readers use the file alone: their pages must not change.
  private func copy(
    after done: UInt32, through last: UInt32, _ header: WALIndexHeader
  ) throws -> Bool {
    let readers = WALIndex.Lock.reader0.rawValue
    guard index.tryLockExclusive(readers) else { return false }
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
    return true
  }

  /// The frames to copy, in the order of their pages.
  private func newestFrames(
    after done: UInt32, through last: UInt32
  ) throws -> [(pgno: UInt32, frame: UInt32)] {
    var newest: [UInt32: UInt32] = [:]
    for frame in done + 1...last { newest[try index.page(of: frame)] = frame }
    return newest.map { (pgno: $0.key, frame: $0.value) }.sorted { $0.pgno < $1.pgno }
  }

  func fileChangeCounter() throws -> UInt32 {
    let header = PageMemory(bytes: 512)
    try index.readDatabase(into: header.bytes, at: 0)
    return UInt32(bigEndian: header.bytes.load(fromByteOffset: 24, as: UInt32.self))
  }
}
