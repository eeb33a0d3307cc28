// Looks for pages that are not what they were written as: a disk can change bytes, and only a
// checksum kept elsewhere shows it. Used by the scrub, and before a comparison of all pages.

import WALShip

/// A page whose bytes are not what the page map says.
public struct WrongPage: Equatable, Sendable {
  public var pgno: Pgno
  /// What the map says.
  public var entry: PageMapEntry
  /// The checksum of the bytes.
  public var found: UInt64

  public init(pgno: Pgno, entry: PageMapEntry, found: UInt64) {
    self.pgno = pgno
    self.entry = entry
    self.found = found
  }
}

/// Compares pages with the page map while the node is at work. It belongs to one thread.
public final class PageCheck {
  private let map: PageMapFile
  private let reader: SnapshotReader

  /// How often a mismatch must be seen: a page that is being published can look wrong for a moment.
  private static let confirmations = 3

  public init(path: String, map: PageMapFile, tracker: PositionTracker) throws {
    self.map = map
    reader = try SnapshotReader(path: path, pageSize: map.identity.pageSize, tracker: tracker)
  }

  /// Checks at most `count` pages after page `cursor`, in one snapshot.
  ///
  /// - Returns: the wrong ones, and the page after which to go on; nil at the end.
  /// - Throws: `SQLITE_BUSY` when commits kept coming between; try again.
  public func check(
    after cursor: UInt32, count: Int
  ) throws -> (wrong: [WrongPage], cursor: UInt32?) {
    var suspects: [Pgno] = []
    let last: UInt32
    do {
      let snapshot = try reader.begin(following: map)
      defer { reader.end() }
      last = min(snapshot.pageCount, UInt32(clamping: Int(cursor) + count))
      for number in cursor..<max(last, cursor) {
        if try wrong(Pgno(number + 1), snapshot) != nil { suspects.append(Pgno(number + 1)) }
      }
      if last == snapshot.pageCount, suspects.isEmpty { return ([], nil) }
    }
    return (try suspects.compactMap(confirm), last)
  }

  /// Checks all pages, as fast as they can be read.
  public func checkAll() throws -> [WrongPage] {
    var found: [WrongPage] = []
    var cursor: UInt32? = 0
    while let after = cursor {
      let part = try check(after: after, count: 4096)
      found += part.wrong
      cursor = part.cursor
    }
    return found
  }

  /// Looks at one page again.
  ///
  /// - Returns: nil when it is right, or gone.
  public func confirm(_ pgno: Pgno) throws -> WrongPage? {
    var seen: WrongPage?
    for attempt in 0..<Self.confirmations {
      if attempt > 0 { pauseThread(microseconds: 2000) }
      let snapshot = try reader.begin(following: map)
      defer { reader.end() }
      guard pgno.rawValue <= snapshot.pageCount, let found = try wrong(pgno, snapshot) else {
        return nil
      }
      seen = found
    }
    return seen
  }

  private func wrong(_ pgno: Pgno, _ snapshot: SnapshotReader.Snapshot) throws -> WrongPage? {
    guard pgno != map.identity.pageSize.lockPage else { return nil }
    let entry = map.entry(pgno)
    // Changed after the snapshot: the entry says nothing about this version.
    if entry.txid > snapshot.position.txid, entry.txid <= map.live.txid { return nil }
    let found = pageChecksum(try reader.read(pgno), pgno: pgno)
    return found == entry.checksum ? nil : WrongPage(pgno: pgno, entry: entry, found: found)
  }
}
