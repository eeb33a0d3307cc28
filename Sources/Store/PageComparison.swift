// Checks of files that may be in use: does each page have the checksum that the page map gives it,
// and do two files hold the same pages?

import Glibc
import WALShip

/// Reads all pages of a database file at one moment, beside whoever uses it.
public final class PageComparison {
  /// One page that is not what it should be.
  public struct Difference: Equatable, Sendable {
    public var pgno: Pgno
    /// Nil when the page is missing on one side.
    public var found: UInt64?
    public var expected: UInt64?
  }

  public let path: String
  public let pageSize: PageSize
  /// How the pages are read: beside SQLite from a pinned snapshot, or straight from a file without
  /// a WAL.
  private enum Source {
    case snapshot(SnapshotPin, SnapshotPin.Pinned)
    case file(DiskFile, Connection)
  }

  private let source: Source
  private let page: PageMemory
  public let pageCount: UInt32

  /// Pins the present state of a database.
  public init(path: String) throws {
    guard let header = try DatabaseHeader(file: path) else {
      throw PrimaryDatabase.Failure.notADatabase(path)
    }
    self.path = path
    pageSize = header.pageSize
    page = PageMemory(bytes: header.pageSize.bytes)
    // Without a WAL everything is in the file, and looking must not make one.
    guard header.isWAL, Disk.exists(path + "-wal") else {
      let connection = try Connection(path: path, mode: .readOnly)
      try connection.execute(header.isWAL ? "" : "BEGIN; SELECT count(*) FROM sqlite_schema")
      source = .file(try DiskFile(path: path, mode: .readOnly, operation: .readFile), connection)
      pageCount = UInt32(clamping: (Disk.size(path) ?? 0) / header.pageSize.bytes)
      return
    }
    let pin = try SnapshotPin(path: path, pageSize: header.pageSize)
    let pinned = try pin.open { _ in true }.0
    source = .snapshot(pin, pinned)
    pageCount = pinned.pageCount
  }

  deinit { if case .snapshot(let pin, _) = source { pin.close() } }

  private func read(_ pgno: Pgno) throws {
    switch source {
    case .snapshot(let pin, let pinned): try pin.read(pgno, pinned, into: page.bytes)
    case .file(let file, _):
      let count = try file.read(into: page.bytes, at: pgno.index * pageSize.bytes, .readFile)
      guard count == pageSize.bytes else {
        throw DiskError(operation: .readFile, errorNumber: EIO, path: path)
      }
    }
  }

  /// A page of the pinned state, valid until the next call.
  func page(_ pgno: Pgno) throws -> UnsafeMutableRawBufferPointer {
    try read(pgno)
    return page.bytes
  }

  public func checksum(_ pgno: Pgno) throws -> UInt64 {
    try read(pgno)
    return pageChecksum(page.readOnly, pgno: pgno)
  }

  /// The position that a replica's file carries in the pinned state; nil for a primary's.
  public func stamp() throws -> PositionStamp? {
    try read(Pgno(1))
    return PositionStamp(page: page.readOnly)
  }

  /// What SQLite itself finds wrong; `ok` when nothing.
  public func integrityCheck() throws -> [String] {
    let connection =
      switch source {
      case .snapshot(let pin, _): pin.connection
      case .file(_, let connection): connection
      }
    return try connection.query("PRAGMA integrity_check(20)").compactMap { row in
      if case .text(let line)? = row.first { line } else { nil }
    }
  }

  /// Compares with the page map beside the file. A node may be at work: pages that it changes
  /// meanwhile do not count.
  public func differencesFromPageMap(limit: Int) throws -> [Difference] {
    let map = try PageMapFile(opening: PrimaryDatabase.pageMapPath(of: path))
    var differences: [Difference] = []
    for number in 1...max(1, pageCount) where Pgno(number) != pageSize.lockPage {
      let pgno = Pgno(number)
      guard number <= pageCount else { break }
      let before = map.entry(pgno)
      let found = try checksum(pgno)
      guard found != before.checksum else { continue }
      // The entry can be ahead of this snapshot, or behind it for a moment: look at the newest
      // state of both.
      if try isExplainedByCommits(pgno, map) { continue }
      differences.append(Difference(pgno: pgno, found: found, expected: before.checksum))
      if differences.count >= limit { break }
    }
    return differences
  }

  private func isExplainedByCommits(_ pgno: Pgno, _ map: PageMapFile) throws -> Bool {
    guard case .snapshot(_, let pinned) = source else { return false }
    let now = try SnapshotPin(path: path, pageSize: pageSize)
    for _ in 0..<20 {
      let entry = map.entry(pgno)
      let (state, _) = try now.open { _ in true }
      defer { now.close() }
      try now.read(pgno, state, into: page.bytes)
      if pageChecksum(page.readOnly, pgno: pgno) == entry.checksum { return true }
      if map.entry(pgno) == entry, state.place == pinned.place { return false }
    }
    return false
  }

  /// Compares with another file, page by page.
  public func differences(from other: PageComparison, limit: Int) throws -> [Difference] {
    var differences: [Difference] = []
    let last = max(pageCount, other.pageCount)
    for number in 1...max(1, last) where Pgno(number) != pageSize.lockPage {
      let pgno = Pgno(number)
      let mine = number <= pageCount ? try checksum(pgno) : nil
      let theirs = number <= other.pageCount ? try other.checksum(pgno) : nil
      guard mine != theirs else { continue }
      differences.append(Difference(pgno: pgno, found: mine, expected: theirs))
      if differences.count >= limit { break }
    }
    return differences
  }
}

/// Reads a -wal file from its start, a frame at a time.
public struct LogReport: Sendable {
  public var header: WALHeader
  /// First and last frame of each transaction, and the pages of the database after it.
  public var transactions: [WALSummary.Transaction] = []
  public var end: TransactionScanner.End
  public var fileBytes: Int

  /// - Throws: `DiskError`, or `WALFormatError` when the file does not begin as a WAL.
  public init(path: String) throws {
    let file = try DiskFile(path: path, mode: .readOnly, operation: .readLog)
    fileBytes = file.size
    let start = PageMemory(bytes: WALHeader.byteCount)
    let read = try file.read(into: start.bytes, at: 0, .readLog)
    header = try WALHeader(decoding: UnsafeRawBufferPointer(rebasing: start.readOnly[0..<read]))
    var scanner = TransactionScanner(header: header)
    let frame = PageMemory(bytes: header.frameBytes)
    var number: UInt32 = 1
    var first: UInt32 = 1
    end = .moreBytesNeeded
    while true {
      let offset = WALHeader.byteCount + (Int(number) - 1) * header.frameBytes
      guard try file.read(into: frame.bytes, at: offset, .readLog) == header.frameBytes else {
        end = scanner.endOfInput
        return
      }
      switch scanner.next(frame.readOnly) {
      case .end(let reason):
        end = reason
        return
      case .frame(let found):
        if found.isCommit {
          transactions.append(
            WALSummary.Transaction(frames: first...number, pageCount: found.commitPageCount))
          first = number + 1
        }
        number += 1
      }
    }
  }
}
