// Reads what embedded replicas pull: frames of generations, each answer from one snapshot.

import NIOCore
import Store
import Synchronization
import WALShip

/// Pages for embedded replicas. Generations are dealt with on one thread.
public final class SyncSource: @unchecked Sendable {  // confined to `thread`
  let thread = DatabaseThread()
  private let path: String
  let map: PageMapFile
  let tracker: PositionTracker
  private let stopping = Mutex(Stopping())
  private var reader: SnapshotReader?
  private let emptyPage = PageMemory(bytes: pageBytes)
  /// Pushes of which more is to come.
  var pushes: [String: PushInParts] = [:]
  private var state: (file: SyncRecordsFile, generations: SyncGenerations)?

  /// The only size that these clients know.
  static let pageBytes = 4096
  static let framesPerPull = 256
  /// SQLite never uses the page with the byte for its locks, at 1 GiB.
  static let lockPage = Pgno(UInt32((1 << 30) / pageBytes + 1))

  enum Failure: Error {
    case pageSize(Int)
    /// A client was told of a write that is not here yet.
    case behind
    /// Pages have changed that the copy of a part does not have.
    case changed
  }

  enum Pull: Sendable {
    case frames(ByteBuffer)
    case generation(UInt32)
  }

  init(path: String, map: PageMapFile, tracker: PositionTracker) {
    self.path = path
    self.map = map
    self.tracker = tracker
  }

  func stop() {
    let wakes = stopping.withLock { stopping in
      stopping.isStopped = true
      defer { stopping.wakes = [:] }
      return Array(stopping.wakes.values)
    }
    for wake in wakes { wake() }
    thread.stop()
  }

  // MARK: From any thread

  struct StopID { fileprivate var number: Int }

  /// Who is told that the database is closed.
  private struct Stopping {
    var isStopped = false
    var last = 0
    var wakes: [Int: @Sendable () -> Void] = [:]
  }

  /// Calls `wake` once, when the database is closed; at once if it is.
  func whenStopped(_ wake: @escaping @Sendable () -> Void) -> StopID {
    let (number, now) = stopping.withLock { stopping in
      stopping.last += 1
      if !stopping.isStopped { stopping.wakes[stopping.last] = wake }
      return (stopping.last, stopping.isStopped)
    }
    if now { wake() }
    return StopID(number: number)
  }

  func cancel(_ id: StopID) {
    stopping.withLock { _ = $0.wakes.removeValue(forKey: id.number) }
  }

  func makeReader() throws -> SnapshotReader {
    let bytes = map.identity.pageSize.bytes
    guard bytes == Self.pageBytes else { throw Failure.pageSize(bytes) }
    return try SnapshotReader(path: path, pageSize: map.identity.pageSize, tracker: tracker)
  }

  func check(_ snapshot: SnapshotReader.Snapshot) throws {
    if tracker.owes(after: snapshot.position) { throw Failure.behind }
  }

  /// A page of a snapshot, as it was written.
  func page(_ pgno: Pgno, _ reader: SnapshotReader) throws -> UnsafeRawBufferPointer {
    let page = try reader.read(pgno)
    guard let snapshot = reader.snapshot, pgno.rawValue <= snapshot.pageCount else { return page }
    let entry = map.entry(pgno)
    // An entry later than the snapshot says nothing about this version.
    if entry != .absent, entry.txid <= snapshot.position.txid,
      pageChecksum(page, pgno: pgno) != entry.checksum
    {
      throw PageSource.Failure.damagedPage(pgno)
    }
    return page
  }

  /// The pages that changed after a transaction, all of them after none.
  func changed(_ since: TXID, through last: UInt32) -> [Pgno] {
    if since == .zero { return (0..<last).map { Pgno($0 + 1) }.filter { $0 != Self.lockPage } }
    var pages: [Pgno] = []
    var cursor: UInt32? = 0
    while let after = cursor {
      let found = map.changedPages(
        since: since, orAbsent: true, after: after, through: last, limit: 4096)
      pages += found.pages.lazy.filter { $0 != Self.lockPage }
      cursor = found.cursor
    }
    // What only made the database smaller ends at a commit as well.
    return pages.isEmpty ? [Pgno(1)] : pages
  }

  /// A whole copy, for a client that begins with a generation.
  func export(_ number: UInt32) -> SyncPages {
    SyncPages(self, .file) { position in
      try self.thread.sync {
        try self.change(isDurable: false) { generations in
          try generations.copied(number, at: position)
        }
      }
    }
  }

  // MARK: On the thread

  /// The generation that a client begins with.
  func info(completion: @escaping @Sendable (Result<UInt32, any Error>) -> Void) -> Bool {
    thread.submit { [self] in
      completion(
        Result {
          try read { snapshot in
            try change { generations in
              try generations.newest(
                at: snapshot.position, tracker.epochs, wasApplied: wasApplied
              ) { changed($0, through: snapshot.pageCount) }
            }
          }
        })
    }
  }

  /// Frames from `start` on, or where to go on.
  func pull(
    _ number: UInt32, from start: Int, count: Int,
    completion: @escaping @Sendable (Result<Pull, any Error>) -> Void
  ) -> Bool {
    thread.submit { [self] in completion(Result { try pull(number, start, count) }) }
  }

  private func pull(_ number: UInt32, _ start: Int, _ count: Int) throws -> Pull {
    try read { snapshot in
      try check(snapshot)
      guard snapshot.pageCount > 0 else { return .generation(number) }
      let answer = try change { generations in
        try generations.pull(
          number, from: start, count: min(count, Self.framesPerPull), at: snapshot.position,
          tracker.epochs, wasApplied: wasApplied
        ) { changed($0, through: snapshot.pageCount) }
      }
      switch answer {
      case .generation(let next): return .generation(next)
      case .frames(let pages, let isEnd):
        return .frames(try frames(pages, isEnd ? snapshot.pageCount : 0))
      }
    }
  }

  func read<T>(_ body: (SnapshotReader.Snapshot) throws -> T) throws -> T {
    let reader = try self.reader ?? makeReader()
    self.reader = reader
    let snapshot = try reader.begin(following: map)
    defer { reader.end() }
    return try body(snapshot)
  }

  /// Changes the generations, and writes down what the answer will mean before it is given.
  ///
  /// - Parameters:
  ///   - isDurable: whether a new number must survive a loss of power.
  ///   - always: whether everything must.
  func change<T>(
    isDurable: Bool = true, always: Bool = false, _ body: (inout SyncGenerations) throws -> T
  ) throws -> T {
    var (file, generations) = state ?? load()
    let result = Result { try body(&generations) }
    state = (file, generations)
    let isNew = generations.last != file.records.last
    try file.save(
      last: generations.last, floor: generations.floor, generations.records, generations.pushes,
      isDurable: isDurable && isNew || always)
    return try result.get()
  }

  private func load() -> (SyncRecordsFile, SyncGenerations) {
    let file = SyncRecordsFile(database: path, identity: map.identity.database)
    let records = file.records
    return (
      file,
      SyncGenerations(
        last: records.last, floor: records.floor, former: records.records, pushes: records.pushes)
    )
  }

  /// - Parameter size: of the database, when the last frame is a commit.
  private func frames(_ pages: [Pgno], _ size: UInt32) throws -> ByteBuffer {
    guard let reader else { return ByteBuffer() }
    var bytes = ByteBuffer()
    let salts = Salts(first: 0, second: 0)
    var checksum = WALChecksum.zero
    bytes.reserveCapacity(pages.count * (Self.pageBytes + FrameHeader.byteCount))
    for (index, pgno) in pages.enumerated() {
      let isFiller = SyncGenerations.Generation.isFiller(pgno)
      let page = try isFiller ? emptyPage.readOnly : page(pgno, reader)
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
}
