// The 24 bytes before each page in a -wal file, and the checksum that they carry.
//
// Source: https://www.sqlite.org/fileformat2.html#walformat

/// The header of one frame. Its integers are big-endian.
public struct FrameHeader: Equatable, Sendable {
  public var pgno: Pgno
  /// The size of the database in pages after a commit; 0 when this frame is not a commit.
  public var commitPageCount: UInt32
  public var salts: Salts
  /// The checksum of the WAL up to and including this frame.
  public var checksum: WALChecksum

  public static let byteCount = 24

  /// Whether a transaction ends with this frame.
  public var isCommit: Bool { commitPageCount != 0 }

  public init(pgno: Pgno, commitPageCount: UInt32, salts: Salts, checksum: WALChecksum) {
    self.pgno = pgno
    self.commitPageCount = commitPageCount
    self.salts = salts
    self.checksum = checksum
  }

  /// Reads a frame header from the first 24 bytes of `bytes`; salts and checksum are not verified.
  ///
  /// - Throws: `.truncated` on a short read (wait for more bytes), `.zeroPgno` on page number 0
  ///   (the WAL ends before this frame).
  public init(decoding bytes: UnsafeRawBufferPointer) throws(WALFormatError) {
    guard bytes.count >= Self.byteCount else {
      throw .truncated(neededBytes: Self.byteCount, gotBytes: bytes.count)
    }
    self.init(unchecked: bytes)
    guard pgno.rawValue != 0 else { throw .zeroPgno }
  }

  /// As `init(decoding:)`, for callers that check the length and the page number themselves.
  init(unchecked bytes: UnsafeRawBufferPointer) {
    self.init(
      pgno: Pgno(bytes.bigEndianWord(at: 0)),
      commitPageCount: bytes.bigEndianWord(at: 4),
      salts: Salts(first: bytes.bigEndianWord(at: 8), second: bytes.bigEndianWord(at: 12)),
      checksum: WALChecksum(s0: bytes.bigEndianWord(at: 16), s1: bytes.bigEndianWord(at: 20)))
  }

  /// Writes the header to the first 24 bytes of `bytes`.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) {
    precondition(bytes.count >= Self.byteCount, "a frame header takes 24 bytes")
    bytes.setBigEndianWord(pgno.rawValue, at: 0)
    bytes.setBigEndianWord(commitPageCount, at: 4)
    bytes.setBigEndianWord(salts.first, at: 8)
    bytes.setBigEndianWord(salts.second, at: 12)
    bytes.setBigEndianWord(checksum.s0, at: 16)
    bytes.setBigEndianWord(checksum.s1, at: 20)
  }
}

/// The checksum of a frame, continuing `previous`: the first 8 bytes of its header, then the page.
///
/// For frame 1, `previous` is the checksum in the WAL header. `bigEndian` is the order that the
/// WAL header states.
public func frameChecksum(
  after previous: WALChecksum, pgno: Pgno, commitPageCount: UInt32, page: UnsafeRawBufferPointer,
  bigEndian: Bool
) -> WALChecksum {
  var checksum = previous
  if bigEndian {
    checksum.add(pgno.rawValue, commitPageCount)
  } else {
    checksum.add(pgno.rawValue.byteSwapped, commitPageCount.byteSwapped)
  }
  checksum.update(page, bigEndian: bigEndian)
  return checksum
}
