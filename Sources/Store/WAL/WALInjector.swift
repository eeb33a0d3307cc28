// Makes transactions from elsewhere visible to every reader of a stock SQLite file: appends frames
// to its -wal, names them in the wal-index, and publishes a new header. Readers are never blocked.
// The write lock is held for life, so no other program can write. The steps and why they are in
// this order: docs/ARCHITECTURE.md

import WALShip

/// The writer of a replica's WAL. It belongs to one thread.
public final class WALInjector {
  public let path: String
  let pageSize: PageSize
  private let connection: Connection
  private let probe: Statement
  let index: WALIndex
  let log: LogFile
  let pages: PageReader
  private let tracker: PositionTracker
  private let page1: PageMemory
  private let appender: WALAppender
  private var header: WALIndexHeader { appender.header }

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// Another process holds the write lock: another replica serves this file, or a program is
    /// writing to it.
    case inUse
    /// The last commit does not carry a replica's stamp.
    case foreignWrite
    public var description: String {
      switch self {
      case .inUse: "another process holds the write lock of this database"
      case .foreignWrite: "the database was changed by another program"
      }
    }
  }

  /// Opens the database, lets SQLite recover its WAL, and takes the write lock.
  public init(path: String, pageSize: PageSize, tracker: PositionTracker) throws {
    self.path = path
    self.pageSize = pageSize
    self.tracker = tracker
    connection = try Connection(path: path, mode: .readWrite)
    connection.setBusyTimeout(milliseconds: 5000)
    connection.keepLog()
    connection.ignoreSchema()
    try connection.execute("PRAGMA synchronous=NORMAL")
    probe = try connection.prepare(Connection.snapshotProbe)
    _ = try probe.step()
    probe.reset()
    index = try WALIndex(connection: connection)
    guard Self.lock(index) else { throw Failure.inUse }
    log = try LogFile(databasePath: path, pageSize: pageSize, writable: true)
    // SQLite may have made the file just now, and syncs its name only with frames of its own. A
    // checkpoint that a loss of power cuts off needs the WAL to be found again.
    try Disk.syncDirectory(of: path)
    pages = PageReader(index: index, log: log, pageSize: pageSize.bytes)
    page1 = PageMemory(bytes: pageSize.bytes)
    guard let header = index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    appender = WALAppender(index: index, log: log, pageSize: pageSize, header: header)
  }

  /// A process that was just killed may hold its locks for a moment more.
  private static func lock(_ index: WALIndex) -> Bool {
    for attempt in 0..<200 {
      if index.tryLockExclusive(WALIndex.Lock.write.rawValue) { return true }
      if attempt < 199 { pauseThread(microseconds: 10_000) }
    }
    return false
  }

  deinit { index.unlockExclusive(WALIndex.Lock.write.rawValue) }

  // MARK: What is visible

  /// The place that readers see now.
  public var place: LogPlace { header.place }
  public var frameCount: UInt32 { header.frameCount }
  public var isBatchOpen: Bool { appender.isBatchOpen }

  /// The stamp of the visible page 1.
  ///
  /// - Throws: `.foreignWrite` when the last commit was not made by a replica.
  public func stamp() throws -> PositionStamp {
    if header.frameCount > 0 {
      let frame = PageMemory(bytes: log.frameBytes)
      guard try log.readFrames(from: header.frameCount, count: 1, into: frame.bytes) == 1 else {
        throw Failure.foreignWrite
      }
      let last = try FrameHeader(
        decoding: UnsafeRawBufferPointer(rebasing: frame.readOnly[0..<FrameHeader.byteCount]))
      guard last.pgno == Pgno(1) else { throw Failure.foreignWrite }
    }
    try pages.read(Pgno(1), through: header.frameCount, into: page1.bytes)
    guard let stamp = PositionStamp(page: page1.readOnly) else { throw Failure.foreignWrite }
    return stamp
  }

  /// Reads a page as it will be once the open batch is published, without the stamp.
  public func readPage(_ pgno: Pgno, into page: UnsafeMutableRawBufferPointer) throws {
    if try !appender.read(pgno, into: page) {
      try pages.read(pgno, through: header.frameCount, into: page)
    }
    if pgno == Pgno(1) { PositionStamp.clear(page) }
  }

  // MARK: Writing

  /// Appends a page to the open batch, opening one if there is none.
  public func append(_ pgno: Pgno, _ page: UnsafeRawBufferPointer) throws {
    try appender.append(pgno, page)
  }

  /// Forgets the open batch. Nobody saw its frames; later ones overwrite them.
  public func abandonBatch() { appender.abandon() }

  /// Makes the open batch visible, as the state at `position`.
  public func publish(pageCount: UInt32, position: Position) throws {
    try readPage(Pgno(1), into: page1.bytes)
    PositionStamp(position).write(to: page1.bytes)
    // The commit mark belongs on the stamped page 1, which therefore comes last.
    try appender.publish(
      pageCount: pageCount, last: Pgno(1), page1.readOnly, isDurable: false
    ) { tracker.announce(position, at: $0) }
  }

  // MARK: Checkpoints

  /// Starts the WAL again from its first frame, if all of it was copied and nobody reads from it.
  ///
  /// The checkpoint lock must be held, and what is durable in the page map cover the present place.
  ///
  /// - Parameter fileFramesMax: a -wal file longer than this is cut.
  /// - Returns: false when a reader is in the way; try again later.
  func restartLog(position: Position, fileFramesMax: UInt32) throws -> Bool {
    try appender.restart(fileFramesMax: fileFramesMax) { tracker.advance(to: position, at: $0) }
  }
}
