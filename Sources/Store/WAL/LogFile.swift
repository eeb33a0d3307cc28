// The engine's own descriptor of a -wal file. SQLite takes no locks on it, so opening and closing
// it is harmless.

import WALShip

/// Reads and writes frames of a WAL by their number.
final class LogFile: Sendable {
  let file: DiskFile
  let pageSize: Int
  let frameBytes: Int

  init(databasePath: String, pageSize: PageSize, writable: Bool) throws(DiskError) {
    file = try DiskFile(
      path: databasePath + "-wal", mode: writable ? .readWrite : .readOnly, operation: .openLog)
    self.pageSize = pageSize.bytes
    frameBytes = FrameHeader.byteCount + pageSize.bytes
  }

  func offset(of frame: UInt32) -> Int { WALHeader.byteCount + (Int(frame) - 1) * frameBytes }

  /// Reads the page of a frame.
  func readPage(
    of frame: UInt32, into page: UnsafeMutableRawBufferPointer
  ) throws(DiskError) {
    let count = try file.read(into: page, at: offset(of: frame) + FrameHeader.byteCount, .readLog)
    guard count == page.count else {
      throw DiskError(operation: .readLog, errorNumber: 5, path: file.path)
    }
  }

  /// Reads whole frames, headers included, and returns how many there were.
  func readFrames(
    from first: UInt32, count: Int, into buffer: UnsafeMutableRawBufferPointer
  ) throws(DiskError) -> Int {
    let wanted = min(count * frameBytes, buffer.count / frameBytes * frameBytes)
    let slice = UnsafeMutableRawBufferPointer(rebasing: buffer[0..<wanted])
    return try file.read(into: slice, at: offset(of: first), .readLog) / frameBytes
  }
}
