// Reads what embedded replicas pull: a whole copy, and the frames of generations, each answer from
// one snapshot.

import NIOCore
import Store
import WALShip

/// Pages for embedded replicas. All of it runs on one thread.
public final class SyncSource: @unchecked Sendable {  // confined to `thread`
  private let thread = DatabaseThread()
  private let path: String
  private let map: PageMapFile
  private let tracker: PositionTracker
  private var reader: SnapshotReader?
  private var generations: SyncGenerations

  /// The only size that these clients know.
  static let pageBytes = 4096
  static let framesPerPull = 256

  enum Failure: Error {
    case pageSize(Int)
    case refused(SyncGenerations.Refusal)
  }

  enum Pull: Sendable {
    case frames(ByteBuffer)
    case generation(UInt32)
  }

  init(path: String, map: PageMapFile, tracker: PositionTracker) {
    self.path = path
    self.map = map
    self.tracker = tracker
    generations = SyncGenerations(database: map.identity.database.short)
  }

  func stop() { thread.stop() }

  /// The generation that a client begins with.
  func info(completion: @escaping @Sendable (Result<UInt32, any Error>) -> Void) -> Bool {
    thread.submit { [self] in
      completion(
        Result {
          try check()
          do throws(SyncGenerations.Refusal) {
            return try generations.current(at: tracker.position)
          } catch {
            throw Failure.refused(error)
          }
        })
    }
  }

  /// Frames from `start` on, or where to go on.
  func pull(
    _ number: UInt32, from start: Int, count: Int,
    completion: @escaping @Sendable (Result<Pull, any Error>) -> Void
  ) -> Bool {
    thread.submit { [self] in completion(Result { try read(number, start, count) }) }
  }

  private func check() throws {
    let bytes = map.identity.pageSize.bytes
    guard bytes == Self.pageBytes else { throw Failure.pageSize(bytes) }
  }

  private func open() throws -> SnapshotReader {
    if let reader { return reader }
    let opened = try SnapshotReader(
      path: path, pageSize: map.identity.pageSize, tracker: tracker)
    reader = opened
    return opened
  }

  private func read(_ number: UInt32, _ start: Int, _ count: Int) throws -> Pull {
    try check()
    let reader = try open()
    let snapshot = try reader.begin(following: map)
    defer { reader.end() }
    let answer: SyncGenerations.Answer
    do throws(SyncGenerations.Refusal) {
      if start == 1 {
        _ = try generations.needs(number, at: snapshot.position, history: tracker.epochs)
        generations.begin(number, at: snapshot.position)
      }
      let since = try generations.needs(number, at: snapshot.position, history: tracker.epochs)
      if let since {
        generations.add(
          changed(since, through: snapshot.pageCount), to: number,
          through: snapshot.position.txid)
      }
      answer = try generations.pull(
        number, from: start, count: min(count, Self.framesPerPull), at: snapshot.position)
    } catch {
      throw Failure.refused(error)
    }
    switch answer {
    case .generation(let next): return .generation(next)
    case .frames(let pages, let isEnd):
      return .frames(try frames(pages, reader, isEnd ? snapshot.pageCount : 0))
    }
  }

  private func changed(_ since: TXID, through last: UInt32) -> [Pgno] {
    var pages: [Pgno] = []
    var cursor: UInt32? = 0
    while let after = cursor {
      let found = map.changedPages(since: since, after: after, through: last, limit: 4096)
      pages += found.pages
      cursor = found.cursor
    }
    // A transaction without a page of its own within the database still ends at a commit.
    return pages.isEmpty ? [Pgno(1)] : pages
  }

  /// - Parameter size: of the database, when the last frame is a commit.
  private func frames(
    _ pages: [Pgno], _ reader: SnapshotReader, _ size: UInt32
  ) throws -> ByteBuffer {
    var bytes = ByteBuffer()
    let salts = Salts(first: 0, second: 0)
    var checksum = WALChecksum.zero
    bytes.reserveCapacity(pages.count * (Self.pageBytes + FrameHeader.byteCount))
    for (index, pgno) in pages.enumerated() {
      let page = try reader.read(pgno)
      let commit = index == pages.count - 1 ? size : 0
      checksum = frameChecksum(
        after: checksum, pgno: pgno, commitPageCount: commit, page: page, bigEndian: false)
      let header = FrameHeader(
        pgno: pgno, commitPageCount: commit, salts: salts, checksum: checksum)
      bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: FrameHeader.byteCount) {
        header.encode(into: $0)
        return FrameHeader.byteCount
      }
      bytes.writeBytes(page)
    }
    return bytes
  }

  // MARK: Exports

  /// A copy that is read from one snapshot, piece by piece. Used by one request.
  func export() throws -> SyncExport {
    try check()
    return SyncExport(
      reader: { [self] in
        try SnapshotReader(path: path, pageSize: map.identity.pageSize, tracker: tracker)
      }, map: map)
  }
}

/// A copy on its way to a client. It has a thread, and a snapshot until it ends.
final class SyncExport: @unchecked Sendable {  // confined to `thread`
  private let thread = DatabaseThread()
  private let makeReader: () throws -> SnapshotReader
  private let map: PageMapFile
  private var reader: SnapshotReader?
  private var next: UInt32 = 1
  private var began: UInt64 = 0
  private static let pagesPerPiece: UInt32 = 64
  /// A client that reads for longer is cut off: its snapshot keeps the WAL.
  private static let nanosecondsMax: UInt64 = 120_000_000_000

  struct TooSlow: Error {}

  init(reader: @escaping () throws -> SnapshotReader, map: PageMapFile) {
    makeReader = reader
    self.map = map
  }

  /// The next piece; nil at the end.
  func read(completion: @escaping @Sendable (Result<ByteBuffer?, any Error>) -> Void) -> Bool {
    thread.submit { [self] in completion(Result { try piece() }) }
  }

  private func piece() throws -> ByteBuffer? {
    if reader == nil {
      let opened = try makeReader()
      _ = try opened.begin(following: map)
      reader = opened
      began = monotonicNanoseconds()
    }
    guard let reader, let snapshot = reader.snapshot, next <= snapshot.pageCount else { return nil }
    guard monotonicNanoseconds() - began < Self.nanosecondsMax else { throw TooSlow() }
    var bytes = ByteBuffer()
    let last = min(snapshot.pageCount, next + Self.pagesPerPiece - 1)
    for number in next...last { bytes.writeBytes(try reader.read(Pgno(number))) }
    next = last + 1
    return bytes
  }

  func close() {
    _ = thread.submit { [self] in
      reader?.end()
      reader = nil
    }
    thread.stop()
  }
}
