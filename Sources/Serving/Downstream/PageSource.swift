// Reads pages for followers that catch up: from short snapshots, so that the WAL is never pinned
// for long.

import NIOCore
import Store
import WALShip

/// Reads and encodes pages of a database. All of it runs on one thread, `thread`.
public final class PageSource: @unchecked Sendable {  // confined to `thread`
  private let thread = DatabaseThread()
  private let path: String
  private let map: PageMapFile
  private let tracker: PositionTracker
  private var reader: SnapshotReader?
  private var encoder: PageEncoder
  /// For embedded replicas.
  let sync: SyncSource

  /// Pages, as bytes, that one message or one round read from a single snapshot holds.
  public static let chunkBytes = 256 << 10
  public static let consistentBytes = 1 << 20
  /// Bytes of pages that a client of the line protocol may ask for from one snapshot: they are all
  /// in memory until it has read them.
  public static let finalBytesMax = 64 << 20

  public struct Chunk: Sendable {
    /// Whole messages, ready to be sent.
    public var messages: ByteBuffer
    public var pages: Int
    /// The last page that was looked at; nil at the end.
    public var cursor: UInt32?
    /// Where the snapshot of a consistent round stood.
    public var position: Position?
  }

  /// Why pages could not be read; the follower is told to try again, or the node is in trouble.
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case damagedPage(Pgno)
    /// More pages than one snapshot may be asked for: go on with rounds.
    case tooManyPages(Int)
    public var description: String {
      switch self {
      case .damagedPage(let pgno):
        "page \(pgno) does not match its checksum: it was damaged on disk, and is not shipped"
      case .tooManyPages(let count): "\(count) pages have changed: copy them in parts first"
      }
    }
  }

  public init(path: String, map: PageMapFile, tracker: PositionTracker) {
    self.path = path
    self.map = map
    self.tracker = tracker
    encoder = PageEncoder(pageSize: map.identity.pageSize)
    sync = SyncSource(path: path, map: map, tracker: tracker)
  }

  public func stop() {
    thread.stop()
    sync.stop()
  }

  private var pageSize: Int { map.identity.pageSize.bytes }
  public var consistentPagesMax: Int { max(8, Self.consistentBytes / pageSize) }
  var finalPagesMax: Int { Self.finalBytesMax / pageSize }

  /// How many pages a selection has now.
  func count(_ selection: PageSelection, follower: FollowerPages) -> Int {
    let pageCount = map.live.pageCount
    var total = 0
    var cursor: UInt32? = 0
    while let after = cursor {
      let found = select(
        selection, after: after, through: pageCount, limit: .max, follower: follower)
      total += found.pages.count
      cursor = found.cursor
    }
    return total
  }

  /// Reads a part of a round, on this object's thread.
  ///
  /// - Parameter last: looks at no page behind this one.
  func readPages(
    _ selection: PageSelection, after cursor: UInt32, through last: UInt32 = .max,
    follower: FollowerPages,
    completion: @escaping @Sendable (Result<Chunk, any Error>) -> Void
  ) -> Bool {
    thread.submit { [self] in
      completion(
        Result {
          let snapshot = try begin()
          defer { reader?.end() }
          let found = select(
            selection, after: cursor, through: min(last, snapshot.pageCount),
            limit: max(1, Self.chunkBytes / pageSize), follower: follower)
          var messages = ByteBuffer()
          try encode(found.pages, snapshot, into: &messages)
          return Chunk(messages: messages, pages: found.pages.count, cursor: found.cursor)
        })
    }
  }

  /// Reads a whole round from one snapshot, with the message that ends it.
  ///
  /// - Parameter pagesMax: with more pages than this it fails with `Failure.tooManyPages`.
  func readConsistentRound(
    _ selection: PageSelection, follower: FollowerPages, history: EpochHistory,
    pagesMax: Int = .max,
    completion: @escaping @Sendable (Result<Chunk, any Error>) -> Void
  ) -> Bool {
    thread.submit { [self] in
      completion(
        Result {
          if pagesMax < .max {
            let pages = count(selection, follower: follower)
            guard pages <= pagesMax else { throw Failure.tooManyPages(pages) }
          }
          let snapshot = try begin()
          defer { reader?.end() }
          var messages = ByteBuffer()
          var cursor: UInt32? = 0
          var total = 0
          while let after = cursor {
            let found = select(
              selection, after: after, through: snapshot.pageCount,
              limit: max(1, Self.chunkBytes / pageSize), follower: follower)
            try encode(found.pages, snapshot, into: &messages)
            total += found.pages.count
            cursor = found.cursor
          }
          let end = ShipRoundEnd(
            isConsistent: true, position: snapshot.position, history: history,
            pageCount: snapshot.pageCount)
          messages.writeShipMessage(ShipMessage(.roundEnd, body: end.encode()))
          return Chunk(
            messages: messages, pages: total, cursor: nil, position: snapshot.position)
        })
    }
  }

  // MARK: On the thread

  private func begin() throws -> SnapshotReader.Snapshot {
    let reader: SnapshotReader
    if let open = self.reader {
      reader = open
    } else {
      reader = try SnapshotReader(path: path, pageSize: map.identity.pageSize, tracker: tracker)
      self.reader = reader
    }
    return try reader.begin(following: map)
  }

  private func select(
    _ selection: PageSelection, after cursor: UInt32, through last: UInt32, limit: Int,
    follower: FollowerPages
  ) -> (pages: [Pgno], cursor: UInt32?) {
    switch selection {
    case .changed(let since):
      map.changedPages(since: since, after: cursor, through: last, limit: limit)
    case .differing:
      map.differingPages(from: follower, after: cursor, through: last, limit: limit)
    }
  }

  private func encode(
    _ pages: [Pgno], _ snapshot: SnapshotReader.Snapshot, into messages: inout ByteBuffer
  ) throws {
    guard !pages.isEmpty, let reader else { return }
    var body = ByteBuffer()
    body.reserveCapacity(pages.count * pageSize / 2)
    body.writeVarint(UInt64(pages.count))
    for pgno in pages {
      let page = try reader.read(pgno)
      let entry = map.entry(pgno)
      // An entry later than the snapshot says nothing about this version; the next round sends the
      // later one.
      if entry.txid <= snapshot.position.txid, pageChecksum(page, pgno: pgno) != entry.checksum {
        throw Failure.damagedPage(pgno)
      }
      body.writeVarint(min(entry.txid, snapshot.position.txid).rawValue)
      let encoded = encoder.encode(page: page, base: nil)
      body.writeEncodedPage(pgno, encoded.encoding, encoded.payload)
    }
    messages.writeShipMessage(ShipMessage(.pages, body: body))
  }
}
