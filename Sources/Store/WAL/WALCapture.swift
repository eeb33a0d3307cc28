// Turns new frames of the WAL into transactions: splits them at commit marks, numbers them, keeps
// the page map, and encodes each page against its previous version. It sees the commits of every
// process alike.

import NIOCore
import WALShip

/// One commit, as captured.
public struct CapturedTransaction: Sendable {
  public var position: Position
  public var place: LogPlace
  public var pageCount: UInt32
  /// Pages that the commit changed.
  public var pages: Int
  public var rawBytes: Int
  /// The body of the live message; nil when the commit is too large for one, so that replicas catch
  /// up by pages.
  public var body: ByteBuffer?
}

public enum CaptureError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The WAL was reset before its frames were seen: the page map no longer knows what changed.
  case historyLost(seen: LogPlace, found: LogPlace)
  case damagedFrame(UInt32)
  public var description: String {
    switch self {
    case .historyLost(let seen, let found):
      "the WAL was reset behind the capture: seen up to \(seen.frame), found \(found.frame) of another generation"
    case .damagedFrame(let frame): "frame \(frame) of the WAL is damaged"
    }
  }
}

/// The reader of a WAL's new frames. It belongs to one thread.
public final class WALCapture {
  /// How commits get their numbers.
  enum Numbering: Sendable {
    /// One more for each commit: on a primary.
    case counting
    /// As the stamp in page 1 says: on a replica, whose frames were numbered upstream.
    case stamped
  }

  private let index: WALIndex
  private let log: LogFile
  private let map: PageMapFile
  private let pages: PageReader
  private let numbering: Numbering
  private var encoder: PageEncoder
  private let chunk: PageMemory
  private let chunkFrames: Int
  private let base: PageMemory
  private let grown: PageMemory
  private let identity: PageMapIdentity
  /// The epoch that commits are captured in.
  var epoch: Epoch

  public private(set) var place: LogPlace
  /// Whether bodies are made: not while the map is being recovered.
  var encodes = true

  /// The largest commit, in bytes of pages, that is sent as one live message.
  static let liveBytesMax = 1 << 20

  init(
    index: WALIndex, log: LogFile, map: PageMapFile, place: LogPlace, numbering: Numbering
  ) {
    self.index = index
    self.log = log
    self.map = map
    self.place = place
    self.numbering = numbering
    identity = map.identity
    let pageSize = identity.pageSize
    pages = PageReader(index: index, log: log, pageSize: pageSize.bytes)
    encoder = PageEncoder(pageSize: pageSize)
    chunkFrames = max(2, Self.liveBytesMax / pageSize.bytes)
    chunk = PageMemory(bytes: chunkFrames * log.frameBytes)
    base = PageMemory(bytes: pageSize.bytes)
    grown = PageMemory(bytes: pageSize.bytes)
    epoch = map.base.history.current
  }

  /// Takes all commits up to frame `limit`, or up to the last one that is published.
  public func capture(through limit: UInt32? = nil) throws -> [CapturedTransaction] {
    guard let header = index.header(), header.isInitialized else { return [] }
    if header.salts != place.salts {
      guard header.frameCount > 0 || place.frame > 0 else {
        place.salts = header.salts
        return []
      }
      try followRestart(to: header)
    }
    let last = min(limit ?? header.frameCount, header.frameCount)
    var captured: [CapturedTransaction] = []
    while place.frame < last {
      captured.append(try captureOne(through: last))
    }
    return captured
  }

  private func followRestart(to header: WALIndexHeader) throws {
    // The lock protocol of `Checkpointer` lets nobody reset the WAL before it is captured, so a new
    // generation begins exactly where the old one was left.
    let isNext = header.salts.first == place.salts.first &+ 1
    // A transaction that was rolled back can have begun one in between. Behind such an empty one,
    // another connection draws both salts anew: that all of the former one was copied is proof, too.
    guard isNext || place.frame == 0 || place == map.base.place else {
      throw CaptureError.historyLost(seen: place, found: header.place)
    }
    place = LogPlace(salts: header.salts, frame: 0)
    var base = map.base
    guard !isNext, base.txid == map.live.txid else { return }
    // Nothing else would tell a start that this WAL leads on from what is known.
    base.place = place
    try map.saveBase(base)
  }

  // MARK: One transaction

  private func captureOne(through last: UInt32) throws -> CapturedTransaction {
    let time = wallClockMicroseconds()
    let first = place.frame + 1
    let captured = try map.update { editor -> CapturedTransaction in
      let pagesBefore = editor.live.pageCount
      var txid = editor.live.txid.next
      var frame = first
      var count = 0
      var touched = 0
      var body: ByteBuffer?
      var commit: UInt32 = 0
      repeat {
        let wanted = min(chunkFrames, Int(last - frame) + 1, frame == first ? 4 : chunkFrames)
        count = try log.readFrames(from: frame, count: wanted, into: chunk.bytes)
        guard count > 0 else { throw CaptureError.damagedFrame(frame) }
        let run = try commitRun(frames: count, at: frame)
        commit = run.commit
        // A small commit can lie across the end of a first, short read: then read it again as a
        // whole.
        if commit == 0, frame == first, count < chunkFrames, Int(last - frame) + 1 > count {
          count = try log.readFrames(
            from: frame, count: min(chunkFrames, Int(last - frame) + 1), into: chunk.bytes)
          let whole = try commitRun(frames: count, at: frame)
          commit = whole.commit
          count = whole.frames
        } else {
          count = run.frames
        }
        if numbering == .stamped, commit != 0 { txid = try stampedTXID(frame: count - 1, or: txid) }
        let isWhole = commit != 0 && frame == first
        var pageBytes: ByteBuffer? = isWhole && encodes ? ByteBuffer() : nil
        touched += try apply(
          frames: count, first: first, commit: commit, txid: txid, pagesBefore: pagesBefore,
          editor: &editor, body: &pageBytes)
        if isWhole { body = pageBytes }
        frame += UInt32(count)
        guard commit != 0 || frame <= last else { throw CaptureError.damagedFrame(last) }
      } while commit == 0
      let lastFrame = frame - 1
      try editor.resize(to: commit)
      touched += try takeGrownPages(
        from: pagesBefore, to: commit, txid: txid, through: lastFrame, editor: &editor, body: &body)
      editor.live.txid = txid
      editor.live.place = LogPlace(salts: place.salts, frame: lastFrame)
      let position = Position(
        database: identity.database, epoch: epoch, txid: txid,
        checksum: editor.live.checksum)
      let header = TransactionHeader(
        txid: txid, pageCount: commit, checksum: position.checksum, committedMicroseconds: time,
        pages: touched)
      return CapturedTransaction(
        position: position, place: editor.live.place, pageCount: commit, pages: touched,
        rawBytes: touched * pages.pageSize, body: body.map { Self.body(header, pages: $0) })
    }
    place = captured.place
    return captured
  }

  private static func body(_ header: TransactionHeader, pages: ByteBuffer) -> ByteBuffer {
    var body = ByteBuffer()
    body.reserveCapacity(40 + pages.readableBytes)
    body.writeTransactionHeader(header)
    body.writeImmutableBuffer(pages)
    return body
  }

  /// How many of the frames in the chunk belong to the present transaction, and its page count if
  /// it ends there.
  private func commitRun(frames: Int, at first: UInt32) throws -> (frames: Int, commit: UInt32) {
    for number in 0..<frames {
      let header = try FrameHeader(decoding: headerBytes(number))
      guard header.salts == place.salts else {
        throw CaptureError.damagedFrame(first + UInt32(number))
      }
      if header.isCommit { return (number + 1, header.commitPageCount) }
    }
    return (frames, 0)
  }

  /// Notes the pages of the frames in the chunk; encodes them when `body` is there.
  private func apply(
    frames: Int, first: UInt32, commit: UInt32, txid: TXID, pagesBefore: UInt32,
    editor: inout PageMapFile.Editor, body: inout ByteBuffer?
  ) throws -> Int {
    var newest: [UInt32: Int] = [:]
    if frames > 1 {
      newest.reserveCapacity(frames)
      for number in 0..<frames { newest[pgno(number).rawValue] = number }
    }
    var touched = 0
    for number in 0..<frames {
      let pgno = pgno(number)
      if frames > 1, newest[pgno.rawValue] != number { continue }
      if commit != 0, pgno.rawValue > commit { continue }
      let page = pageBytes(number)
      try take(
        pgno, page: page, hasBase: pgno.rawValue <= pagesBefore, before: first, txid: txid,
        editor: &editor, body: &body)
      touched += 1
    }
    return touched
  }

  private func take(
    _ pgno: Pgno, page: UnsafeRawBufferPointer, hasBase: Bool, before first: UInt32, txid: TXID,
    editor: inout PageMapFile.Editor, body: inout ByteBuffer?
  ) throws {
    let old = editor.entry(pgno)
    if body != nil {
      let base =
        hasBase ? try previousVersion(of: pgno, before: first, checksum: old.checksum) : nil
      let encoded = encoder.encode(page: page, base: base)
      body?.writeEncodedPage(pgno, encoded.encoding, encoded.payload)
    }
    try editor.set(pgno, PageMapEntry(txid: txid, checksum: pageChecksum(page, pgno: pgno)))
  }

  /// The page as it was before this transaction, if it can still be had: a checkpoint may have
  /// overwritten the file.
  private func previousVersion(
    of pgno: Pgno, before first: UInt32, checksum: UInt64
  ) throws -> UnsafeRawBufferPointer? {
    guard checksum != 0 else { return nil }
    try pages.read(pgno, through: first - 1, into: base.bytes)
    guard pageChecksum(base.readOnly, pgno: pgno) == checksum else { return nil }
    return base.readOnly
  }

  /// Pages by which the file grew without a frame: SQLite does not write free pages. They are what
  /// a reader sees there.
  private func takeGrownPages(
    from old: UInt32, to new: UInt32, txid: TXID, through last: UInt32,
    editor: inout PageMapFile.Editor, body: inout ByteBuffer?
  ) throws -> Int {
    guard new > old else { return 0 }
    var touched = 0
    let lockPage = identity.pageSize.lockPage
    for number in old + 1...new {
      let pgno = Pgno(number)
      guard pgno != lockPage, editor.entry(pgno).txid != txid else { continue }
      try pages.read(pgno, through: last, into: grown.bytes)
      try take(
        pgno, page: grown.readOnly, hasBase: false, before: last, txid: txid, editor: &editor,
        body: &body)
      touched += 1
      if let size = body?.readableBytes, size > Self.liveBytesMax { body = nil }
    }
    return touched
  }

  private func stampedTXID(frame number: Int, or fallback: TXID) throws -> TXID {
    guard pgno(number) == Pgno(1), let stamp = PositionStamp(page: pageBytes(number)) else {
      throw CaptureError.damagedFrame(place.frame + UInt32(number) + 1)
    }
    return stamp.txid
  }

  // MARK: The chunk

  private func headerBytes(_ number: Int) -> UnsafeRawBufferPointer {
    let start = number * log.frameBytes
    return UnsafeRawBufferPointer(rebasing: chunk.bytes[start..<start + FrameHeader.byteCount])
  }

  private func pageBytes(_ number: Int) -> UnsafeRawBufferPointer {
    let start = number * log.frameBytes + FrameHeader.byteCount
    return UnsafeRawBufferPointer(rebasing: chunk.bytes[start..<start + pages.pageSize])
  }

  private func pgno(_ number: Int) -> Pgno {
    Pgno(
      UInt32(bigEndian: chunk.bytes.load(fromByteOffset: number * log.frameBytes, as: UInt32.self)))
  }
}
