// Reads the frames of a WAL in order and believes exactly what SQLite's recovery would believe.
// It holds no pages: the caller keeps them, and drops those after the last commit.
//
// Source: https://www.sqlite.org/fileformat2.html#wal_file_format (walIndexRecover in wal.c)

/// Verifies frames one by one, beginning after the WAL header, and knows where commits are.
public struct TransactionScanner: Sendable {
  /// What became of the bytes that were fed.
  public enum Step: Equatable, Sendable {
    case frame(FrameHeader)
    /// Nothing was taken: the scan stands where it stood, and the same frame may be fed again.
    case end(End)
  }

  /// Why a scan ended. The frame, counted from 1, is the first that is not part of the WAL.
  public enum End: Equatable, Sendable {
    /// Input ended after a commit, before the next frame was whole.
    case moreBytesNeeded
    /// Input ended after this many verified frames without a commit mark.
    case openTransaction(frames: Int)
    /// The frame is a leftover of an earlier generation of the WAL, or was never written.
    case saltChanged(frame: UInt32)
    /// The frame is torn, or a leftover with the same salts.
    case checksumMismatch(frame: UInt32)
    /// The frame is for page 0, which no database has.
    case zeroPgno(frame: UInt32)
  }

  public let header: WALHeader
  /// The frames verified so far, which is also the number of the last one.
  public private(set) var frameCount: UInt32 = 0
  /// The checksum after the last verified frame.
  public private(set) var checksum: WALChecksum
  /// The number of the last frame that is a commit; 0 when there is none.
  public private(set) var lastCommitFrame: UInt32 = 0
  public private(set) var commitCount = 0
  /// The size of the database in pages after the last commit; 0 when there is none.
  public private(set) var pageCount: UInt32 = 0
  /// The checksum after the last commit; that of the WAL header when there is none.
  public private(set) var commitChecksum: WALChecksum

  public init(header: WALHeader) {
    self.header = header
    self.checksum = header.checksum
    self.commitChecksum = header.checksum
  }

  /// Verifies the next frame: the first `header.frameBytes` bytes of `bytes`.
  ///
  /// - Returns: the frame, or why the scan ends here, which `bytes` too short for a frame do too.
  public mutating func next(_ bytes: UnsafeRawBufferPointer) -> Step {
    guard bytes.count >= header.frameBytes else { return .end(endOfInput) }
    let (frame, overflow) = frameCount.addingReportingOverflow(1)
    precondition(!overflow, "a WAL has fewer than 2^32 frames")

    // SQLite's order: salts, page number, checksum.
    let candidate = FrameHeader(unchecked: bytes)
    guard candidate.salts == header.salts else { return .end(.saltChanged(frame: frame)) }
    guard candidate.pgno.rawValue != 0 else { return .end(.zeroPgno(frame: frame)) }
    let page = UnsafeRawBufferPointer(
      rebasing: bytes[FrameHeader.byteCount..<header.frameBytes])
    let expected = frameChecksum(
      after: checksum, pgno: candidate.pgno, commitPageCount: candidate.commitPageCount,
      page: page, bigEndian: header.bigEndianChecksums)
    guard candidate.checksum == expected else { return .end(.checksumMismatch(frame: frame)) }

    frameCount = frame
    checksum = expected
    if candidate.isCommit {
      lastCommitFrame = frame
      commitCount += 1
      pageCount = candidate.commitPageCount
      commitChecksum = expected
    }
    return .frame(candidate)
  }

  /// Why the scan ends when there are no more whole frames to feed.
  public var endOfInput: End {
    let open = Int(frameCount - lastCommitFrame)
    return open == 0 ? .moreBytesNeeded : .openTransaction(frames: open)
  }
}
