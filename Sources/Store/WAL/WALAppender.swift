// Appends frames to a -wal, names them in the wal-index and publishes them, as a commit of SQLite's
// does. A replica's applier uses it for everything, a primary for the pages that clients push. It
// decides nothing and takes no write lock. The steps and their order: docs/ARCHITECTURE.md

import WALShip

/// The end of a WAL, for whoever holds the write lock. It belongs to one thread.
final class WALAppender {
  private let index: WALIndex
  private let log: LogFile
  private let pageSize: PageSize
  private let memory: PageMemory
  private var batch: FrameBatch?
  private var checkpointSequence: UInt32 = 0
  /// What readers see, and where the next frame goes.
  private(set) var header: WALIndexHeader

  /// - Parameter header: the present one, read with the write lock in hand.
  init(
    index: WALIndex, log: LogFile, pageSize: PageSize, header: WALIndexHeader,
    memoryBytes: Int = FrameBatch.memoryBytes
  ) {
    self.index = index
    self.log = log
    self.pageSize = pageSize
    self.header = header
    memory = PageMemory(bytes: max(2, memoryBytes / log.frameBytes) * log.frameBytes)
  }

  var isBatchOpen: Bool { batch != nil }

  /// Reads the open batch's image of a page; false when it has none.
  func read(_ pgno: Pgno, into page: UnsafeMutableRawBufferPointer) throws -> Bool {
    try batch?.read(pgno, into: page) ?? false
  }

  /// Appends a page to the open batch, opening one if there is none.
  func append(_ pgno: Pgno, _ page: UnsafeRawBufferPointer) throws {
    try openBatch().append(pgno, page)
  }

  /// Forgets the open batch. Nobody saw its frames; later ones overwrite them.
  func abandon() { batch = nil }

  private func openBatch() throws -> FrameBatch {
    if let batch { return batch }
    if header.frameCount == 0 { try beginLog() }
    let opened = FrameBatch(log: log, after: header, memory: memory)
    batch = opened
    return opened
  }

  /// Makes the open batch visible, with a page behind all others that carries the commit mark.
  ///
  /// - Parameters:
  ///   - isDurable: whether a power loss must not take it back once it is visible.
  ///   - announce: is told the place before anybody can see it.
  func publish(
    pageCount: UInt32, last: Pgno, _ page: UnsafeRawBufferPointer, isDurable: Bool,
    announce: (LogPlace) -> Void
  ) throws {
    let batch = try openBatch()
    try batch.appendLast(last, page)
    try batch.flush(commitPageCount: pageCount)
    if isDurable { try log.file.sync(.syncLog) }
    var frame = header.frameCount
    for pgno in batch.written {
      frame += 1
      try index.append(frame: frame, pgno: pgno)
    }
    header.frameCount = frame
    header.pageCount = pageCount
    header.frameChecksum = batch.checksum
    header.change &+= 1
    header.isInitialized = true
    header.pageSize = pageSize.bytes
    announce(header.place)
    index.publish(header)
    self.batch = nil
  }

  /// Begins a generation of the WAL: its header must be durable before any frame of it.
  /// Source: https://sqlite.org/src/info/ff5be73dee
  private func beginLog() throws {
    if header.salts == Salts(first: 0, second: 0) {
      header.salts = Salts(
        first: Chance.number(in: 1 ... .max), second: Chance.number(in: 0 ... .max))
    }
    checkpointSequence &+= 1
    let logHeader = WALHeader(
      pageSize: pageSize, checkpointSequence: checkpointSequence, salts: header.salts)
    let bytes = PageMemory(bytes: WALHeader.byteCount)
    logHeader.encode(into: bytes.bytes)
    try log.file.write(bytes.readOnly, at: 0, .writeLog)
    try log.file.sync(.syncLog)
    header.frameChecksum = logHeader.checksum
    header.bigEndianChecksums = logHeader.bigEndianChecksums
  }

  /// Starts the WAL again from its first frame, if all of it was copied and nobody reads from it.
  ///
  /// Never SQLite's own RESTART or TRUNCATE: they wait for readers while they hold the locks.
  ///
  /// - Parameters:
  ///   - fileFramesMax: a -wal file longer than this is cut.
  ///   - announce: is told the new place before anybody can see it.
  /// - Returns: false when a reader is in the way; try again later.
  func restart(fileFramesMax: UInt32, announce: (LogPlace) -> Void) throws -> Bool {
    guard batch == nil, index.backfilled == header.frameCount else { return false }
    let readers = WALIndex.Lock.reader1.rawValue
    guard index.tryLockExclusive(readers, count: 4) else { return false }
    defer { index.unlockExclusive(readers, count: 4) }
    header.salts = Salts(
      first: header.salts.first &+ 1, second: Chance.number(in: 0 ... .max))
    header.frameCount = 0
    header.change &+= 1
    announce(header.place)
    index.publish(header)
    index.backfilled = 0
    index.backfillAttempted = 0
    index.setReadMark(1, 0)
    for slot in 2...4 { index.setReadMark(slot, WALIndex.readMarkUnused) }
    if log.file.size > log.offset(of: fileFramesMax) + log.frameBytes {
      // No frame of before may count any more: a power loss could leave the file as long as it was,
      // with only the first of them in it.
      try beginLog()
      try log.file.truncate(to: WALHeader.byteCount, .truncateLog)
    }
    return true
  }
}
