// Why bytes are not what a -wal file begins with. The end of a scan is a value instead:
// see `TransactionScanner.End`.

/// Bytes that are not a WAL header or a frame header.
///
/// Source: https://www.sqlite.org/fileformat2.html#walformat
public enum WALFormatError: Error, Equatable, Sendable {
  /// Fewer bytes than the header has: wait for more.
  case truncated(neededBytes: Int, gotBytes: Int)
  /// Not a WAL, or one whose header was never written in full.
  case badMagic(UInt32)
  /// A WAL of a version other than 3007000.
  case unsupportedVersion(UInt32)
  /// A page size that SQLite does not know, in bytes.
  case badPageSize(UInt32)
  /// The header does not carry its own checksum: it is torn, or still being written.
  case headerChecksumMismatch(expected: WALChecksum, got: WALChecksum)
  /// A frame for page 0, which no database has.
  case zeroPgno
}
