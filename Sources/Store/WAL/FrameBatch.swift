// The pages of a publish in the making: kept in memory in the layout of frames, written to the WAL
// in large pieces.

import WALShip

/// Frames that were appended but are not yet visible to readers.
final class FrameBatch {
  private let log: LogFile
  private let memory: PageMemory
  private let slots: Int
  private let salts: Salts
  private let bigEndian: Bool
  private(set) var checksum: WALChecksum
  /// The next frame to be written to the file.
  private(set) var nextFrame: UInt32
  /// Pages in memory, in the order of their slots, and where each page is.
  private var pending: [Pgno] = []
  private var slotOf: [UInt32: Int] = [:]
  /// Frames in the file that are not yet published.
  private(set) var written: [Pgno] = []
  private var frameOf: [UInt32: UInt32] = [:]

  static let memoryBytes = 4 << 20

  init(log: LogFile, after header: WALIndexHeader, memory: PageMemory) {
    self.log = log
    self.memory = memory
    slots = memory.bytes.count / log.frameBytes
    salts = header.salts
    bigEndian = header.bigEndianChecksums
    checksum = header.frameChecksum
    nextFrame = header.frameCount + 1
  }

  /// Puts a page into the batch, in place of an earlier image of it where that is still in memory.
  func append(_ pgno: Pgno, _ page: UnsafeRawBufferPointer) throws(DiskError) {
    if let slot = slotOf[pgno.rawValue] {
      pageBytes(slot).copyMemory(from: page)
      return
    }
    if pending.count == slots { try flush(commitPageCount: 0) }
    slotOf[pgno.rawValue] = pending.count
    pageBytes(pending.count).copyMemory(from: page)
    pending.append(pgno)
  }

  /// Puts a page behind all others.
  func appendLast(_ pgno: Pgno, _ page: UnsafeRawBufferPointer) throws(DiskError) {
    if let slot = slotOf[pgno.rawValue], slot != pending.count - 1 {
      // The last page takes the slot that this one leaves.
      let last = pending.count - 1
      pageBytes(slot).copyMemory(from: UnsafeRawBufferPointer(pageBytes(last)))
      slotOf[pending[last].rawValue] = slot
      pending.swapAt(slot, last)
      slotOf[pgno.rawValue] = last
    }
    try append(pgno, page)
  }

  /// Reads the batch's image of a page; false when the batch has none.
  func read(_ pgno: Pgno, into page: UnsafeMutableRawBufferPointer) throws(DiskError) -> Bool {
    if let slot = slotOf[pgno.rawValue] {
      page.copyMemory(from: UnsafeRawBufferPointer(pageBytes(slot)))
      return true
    }
    guard let frame = frameOf[pgno.rawValue] else { return false }
    try log.readPage(of: frame, into: page)
    return true
  }

  /// Writes what is in memory. With a page count, the last frame gets the commit mark.
  func flush(commitPageCount: UInt32) throws(DiskError) {
    guard !pending.isEmpty else { return }
    var running = checksum
    for (slot, pgno) in pending.enumerated() {
      let commit = slot == pending.count - 1 ? commitPageCount : 0
      let page = UnsafeRawBufferPointer(pageBytes(slot))
      running = frameChecksum(
        after: running, pgno: pgno, commitPageCount: commit, page: page, bigEndian: bigEndian)
      FrameHeader(pgno: pgno, commitPageCount: commit, salts: salts, checksum: running)
        .encode(into: headerBytes(slot))
    }
    let bytes = UnsafeRawBufferPointer(
      rebasing: memory.readOnly[0..<pending.count * log.frameBytes])
    try log.file.write(bytes, at: log.offset(of: nextFrame), .writeLog)
    checksum = running
    for pgno in pending {
      frameOf[pgno.rawValue] = nextFrame
      nextFrame += 1
    }
    written.append(contentsOf: pending)
    pending.removeAll(keepingCapacity: true)
    slotOf.removeAll(keepingCapacity: true)
  }

  private func headerBytes(_ slot: Int) -> UnsafeMutableRawBufferPointer {
    let start = slot * log.frameBytes
    return UnsafeMutableRawBufferPointer(
      rebasing: memory.bytes[start..<start + FrameHeader.byteCount])
  }

  private func pageBytes(_ slot: Int) -> UnsafeMutableRawBufferPointer {
    let start = slot * log.frameBytes + FrameHeader.byteCount
    return UnsafeMutableRawBufferPointer(rebasing: memory.bytes[start..<start + log.pageSize])
  }
}
