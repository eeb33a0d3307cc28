// Reads the pages of the database as they were at one position, while commits go on: for catch-up,
// backup and checks.

import WALShip

/// A consistent view of all pages. It belongs to one thread; keep it short, for it pins the WAL.
public final class SnapshotReader {
  /// What the open snapshot shows.
  public struct Snapshot: Equatable, Sendable {
    public var position: Position
    public var pageCount: UInt32
    /// The last frame that counts, 0 when everything is in the file.
    fileprivate var lastFrame: UInt32
  }

  private let pin: SnapshotPin
  private let tracker: PositionTracker
  private let page: PageMemory
  public private(set) var snapshot: Snapshot?

  public init(path: String, pageSize: PageSize, tracker: PositionTracker) throws {
    pin = try SnapshotPin(path: path, pageSize: pageSize)
    page = PageMemory(bytes: pageSize.bytes)
    self.tracker = tracker
  }

  /// Opens a snapshot whose exact position is known.
  ///
  /// - Throws: `SQLITE_BUSY` when commits kept coming between; try again.
  public func begin() throws -> Snapshot {
    precondition(snapshot == nil, "a snapshot is open already")
    let (pinned, position) = try pin.open {
      tracker.exactPosition(at: $0, waitingMilliseconds: 2000)
    }
    let opened = Snapshot(
      position: position, pageCount: pinned.pageCount, lastFrame: pinned.lastFrame)
    snapshot = opened
    return opened
  }

  /// The same, once the page map knows all that the snapshot shows: a replica publishes a state
  /// before it notes the pages.
  ///
  /// - Throws: `SQLITE_BUSY` when the map stays behind; try again.
  public func begin(following map: PageMapFile) throws -> Snapshot {
    let snapshot = try begin()
    for _ in 0..<400 {
      if map.live.txid >= snapshot.position.txid { return snapshot }
      pauseThread(microseconds: 500)
    }
    end()
    throw SQLiteError(code: SQLiteError.busy, message: "the page map is behind the database")
  }

  /// A page of the open snapshot, valid until the next call.
  public func read(_ pgno: Pgno) throws -> UnsafeRawBufferPointer {
    guard let snapshot else { preconditionFailure("no snapshot is open") }
    try pin.pages.read(pgno, through: snapshot.lastFrame, into: page.bytes)
    if pgno == Pgno(1) { PositionStamp.clear(page.bytes) }
    return page.readOnly
  }

  public func end() {
    guard snapshot != nil else { return }
    snapshot = nil
    pin.close()
  }
}

/// A read transaction of SQLite's whose place in the WAL is known, so that pages can be read beside
/// SQLite.
public final class SnapshotPin {
  /// The state that is pinned.
  public struct Pinned: Equatable, Sendable {
    public var place: LogPlace
    public var pageCount: UInt32
    /// The last frame that counts, 0 when everything is in the file.
    public var lastFrame: UInt32
  }

  public let connection: Connection
  private let probe: Statement
  private let index: WALIndex
  let pages: PageReader

  /// How often to look again when commits come between.
  private static let triesMax = 50
  /// How long it may take in all: a primary whose capture has failed never gets there.
  private static let nanosecondsMax: UInt64 = 5_000_000_000

  /// - Throws: `SQLITE_PROTOCOL` for a database that is not in WAL mode.
  public init(path: String, pageSize: PageSize) throws {
    connection = try Connection(path: path, mode: .readOnly)
    connection.setBusyTimeout(milliseconds: 1000)
    connection.ignoreSchema()
    probe = try connection.prepare(Connection.snapshotProbe)
    _ = try probe.step()
    probe.reset()
    guard try connection.query("PRAGMA journal_mode").first?.first == .text("wal") else {
      throw SQLiteError(code: SQLiteError.protocolError, message: "the database is not in WAL mode")
    }
    index = try WALIndex(connection: connection)
    let log = try LogFile(databasePath: path, pageSize: pageSize, writable: false)
    pages = PageReader(index: index, log: log, pageSize: pageSize.bytes)
  }

  /// Opens a read transaction at a place that `accept` knows something about.
  ///
  /// - Throws: `SQLITE_BUSY` when commits kept coming between.
  public func open<T>(_ accept: (LogPlace) -> T?) throws -> (Pinned, T) {
    let end = monotonicNanoseconds() + Self.nanosecondsMax
    for _ in 0..<Self.triesMax where monotonicNanoseconds() < end {
      guard let before = index.header() else { continue }
      let copiedBefore = index.backfilled
      try connection.execute("BEGIN")
      _ = try probe.step()
      probe.reset()
      let copiedAfter = index.backfilled
      if let after = index.header(), after == before {
        // SQLite reads the file alone when all of the WAL was copied as the snapshot was opened:
        // then a writer may reset the WAL, and its frames mean nothing. Which of the two it was
        // must be certain.
        let fileOnly = copiedBefore >= before.frameCount
        if (fileOnly || copiedAfter < before.frameCount), let accepted = accept(before.place) {
          let count = before.frameCount > 0 ? before.pageCount : try filePageCount()
          let lastFrame = fileOnly ? 0 : before.frameCount
          return (Pinned(place: before.place, pageCount: count, lastFrame: lastFrame), accepted)
        }
      }
      try connection.execute("COMMIT")
    }
    throw SQLiteError(code: SQLiteError.busy, message: "no quiet moment for a snapshot")
  }

  private func filePageCount() throws -> UInt32 {
    UInt32(clamping: try connection.queryInteger("PRAGMA page_count") ?? 0)
  }

  /// Reads a page of the pinned state.
  public func read(
    _ pgno: Pgno, _ pinned: Pinned, into page: UnsafeMutableRawBufferPointer
  ) throws {
    try pages.read(pgno, through: pinned.lastFrame, into: page)
  }

  public func close() { try? connection.execute("COMMIT") }
}
