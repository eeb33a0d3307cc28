// Reads pages as a reader at some place in the WAL sees them: the newest frame up to there, else
// the file.

import WALShip

/// A page as of a place in the WAL. Whoever calls must hold a lock that keeps frames and file as
/// they are.
struct PageReader {
  let index: WALIndex
  let log: LogFile
  let pageSize: Int

  /// Reads a page; beyond the end of the file it is zeros.
  ///
  /// - Parameter last: the last frame that counts; 0 to read the file alone.
  func read(
    _ pgno: Pgno, through last: UInt32, into page: UnsafeMutableRawBufferPointer
  ) throws {
    if let frame = try index.frame(of: pgno, through: last) {
      try log.readPage(of: frame, into: page)
    } else {
      try index.readDatabase(into: page, at: pgno.index * pageSize)
    }
  }
}

/// Memory for one page, or a few.
public final class PageMemory {
  public let bytes: UnsafeMutableRawBufferPointer
  public init(bytes count: Int) {
    bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }
  deinit { bytes.deallocate() }
  public var readOnly: UnsafeRawBufferPointer { UnsafeRawBufferPointer(bytes) }
}
