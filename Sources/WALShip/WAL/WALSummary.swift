// A whole -wal file at a glance, for `edge-sql inspect wal` and for tests. Replication itself feeds
// `TransactionScanner` frame by frame.

/// What a -wal file holds, as SQLite's recovery would see it.
public struct WALSummary: Equatable, Sendable {
  public struct Transaction: Equatable, Sendable {
    /// The numbers of its frames, counted from 1; the last one is the commit.
    public var frames: ClosedRange<UInt32>
    /// The size of the database in pages after it.
    public var pageCount: UInt32

    public init(frames: ClosedRange<UInt32>, pageCount: UInt32) {
      self.frames = frames
      self.pageCount = pageCount
    }
  }

  public var header: WALHeader
  public var transactions: [Transaction]
  /// The checksum after the last transaction.
  public var checksum: WALChecksum
  /// Why nothing more is part of the WAL.
  public var end: TransactionScanner.End

  /// Scans `wal`, the bytes of a whole -wal file.
  ///
  /// - Throws: when the file header is not valid; SQLite takes such a WAL as empty.
  public init(scanning wal: UnsafeRawBufferPointer) throws(WALFormatError) {
    header = try WALHeader(decoding: wal)
    transactions = []
    var scanner = TransactionScanner(header: header)
    var offset = WALHeader.byteCount
    var first: UInt32 = 1
    while true {
      switch scanner.next(UnsafeRawBufferPointer(rebasing: wal[offset...])) {
      case .frame(let frame):
        offset += header.frameBytes
        if frame.isCommit {
          transactions.append(
            Transaction(
              frames: first...scanner.frameCount, pageCount: frame.commitPageCount))
          first = scanner.frameCount + 1
        }
      case .end(let end):
        checksum = scanner.commitChecksum
        self.end = end
        return
      }
    }
  }
}
