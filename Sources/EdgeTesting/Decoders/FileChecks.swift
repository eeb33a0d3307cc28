// Files that a node finds when it starts: the WAL, the page map, the header of a database. Most of
// their records carry checksums, which random bytes never hit; so the checks also make records from
// the input and seal them.

import Glibc
import Store
import WALShip

extension DecoderCheck {
  static let fileChecks = [
    DecoderCheck("wal", checkWAL),
    DecoderCheck("wal-made", checkMadeWAL),
    DecoderCheck("page-map-records", checkRecords),
    DecoderCheck("page-map-file", checkPageMapFile),
    DecoderCheck("database-header", checkDatabaseHeader),
  ]

  // MARK: WAL

  private static func checkWAL(_ bytes: [UInt8]) throws {
    bytes.withUnsafeBytes { bytes in
      if let frame = try? FrameHeader(decoding: bytes) {
        precondition(frame.pgno.rawValue > 0, "a frame of page 0")
      }
    }
    guard let summary = try? summary(bytes) else { return }
    var again = [UInt8](repeating: 0, count: WALHeader.byteCount)
    again.withUnsafeMutableBytes { summary.header.encode(into: $0) }
    try require(bytes.starts(with: again), "the header comes back as another one")
    try checkPrefixes(of: bytes, summary)
  }

  private static func summary(_ bytes: [UInt8]) throws -> WALSummary {
    try bytes.withUnsafeBytes { try WALSummary(scanning: $0) }
  }

  /// A WAL that ends early holds the first transactions of the whole, and no others.
  private static func checkPrefixes(of bytes: [UInt8], _ whole: WALSummary) throws {
    let frameBytes = whole.header.frameBytes
    for frames in 0...bytes.count / frameBytes {
      let length = WALHeader.byteCount + frames * frameBytes
      for count in [length - 1, length] where count >= WALHeader.byteCount && count <= bytes.count {
        let part = try summary(Array(bytes.prefix(count)))
        let held = (count - WALHeader.byteCount) / frameBytes
        let expected = whole.transactions.filter { $0.frames.upperBound <= held }
        try require(part.transactions == expected, "the first \(count) bytes hold others")
      }
    }
  }

  /// Makes a WAL of the input: some frames are right, some torn, some of another generation.
  private static func checkMadeWAL(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    guard let pageSize = PageSize(512) else { return }
    let header = WALHeader(
      pageSize: pageSize, checkpointSequence: input.word(),
      salts: Salts(first: input.word(), second: input.word()))
    var wal = [UInt8](repeating: 0, count: WALHeader.byteCount)
    wal.withUnsafeMutableBytes { header.encode(into: $0) }
    var checksum = header.checksum
    var rightFrames = 0
    var isRight = true
    while !input.rest.isEmpty, rightFrames < 64 {
      let head = input.byte()
      let pgno = Pgno(UInt32(head >> 4))
      let commit = head & 1 == 0 ? 0 : UInt32(input.byte())
      let page = input.filled(pageSize.bytes)
      checksum = page.withUnsafeBytes {
        frameChecksum(
          after: checksum, pgno: pgno, commitPageCount: commit, page: $0, bigEndian: false)
      }
      var salts = header.salts
      if head & 6 == 6 { salts.first &+= 1 }
      var frame = [UInt8](repeating: 0, count: FrameHeader.byteCount)
      frame.withUnsafeMutableBytes {
        FrameHeader(pgno: pgno, commitPageCount: commit, salts: salts, checksum: checksum)
          .encode(into: $0)
      }
      if head & 14 == 10 { frame[16] ^= 1 }
      isRight = isRight && head & 6 != 6 && head & 14 != 10 && pgno.rawValue > 0
      if isRight { rightFrames += 1 }
      wal += frame + page
    }
    let whole = try summary(wal)
    try require(
      whole.transactions.allSatisfy { $0.frames.upperBound <= rightFrames },
      "a frame behind the first wrong one is believed")
    try checkPrefixes(of: wal, whole)
  }

  // MARK: Page map

  /// Identity, base and live record, as they are and sealed.
  private static func checkRecords(_ bytes: [UInt8]) throws {
    for count in [PageMapIdentity.byteCount, PageMapBase.byteCount] {
      var record = Array(bytes.prefix(count))
      record += [UInt8](repeating: 0, count: count - record.count)
      try checkRecord(record)
      seal(&record)
      try checkRecord(record)
      if count == PageMapIdentity.byteCount {
        // With the magic number and the version, so that the rest of an identity is reached.
        record.replaceSubrange(0..<12, with: identityHead)
        seal(&record)
        try checkRecord(record)
      }
    }
    bytes.withUnsafeBytes { bytes in
      _ = PageMapBase(decoding: bytes)
      _ = PageMapLive(decoding: bytes)
      _ = try? PageMapIdentity(decoding: bytes)
    }
  }

  private static let identityHead: [UInt8] = {
    var record = [UInt8](repeating: 0, count: PageMapIdentity.byteCount)
    guard let pageSize = PageSize(512) else { return [] }
    record.withUnsafeMutableBytes {
      PageMapIdentity(database: .zero, pageSize: pageSize).encode(into: $0)
    }
    return Array(record.prefix(12))
  }()

  /// Puts the checksum at the end that the record should have.
  private static func seal(_ record: inout [UInt8]) {
    let sum = record.withUnsafeBytes {
      xxh64(UnsafeRawBufferPointer(rebasing: $0[..<($0.count - 8)]), seed: 0)
    }
    record.withUnsafeMutableBytes {
      $0.storeBytes(of: sum.littleEndian, toByteOffset: $0.count - 8, as: UInt64.self)
    }
  }

  private static func checkRecord(_ record: [UInt8]) throws {
    var again = [UInt8](repeating: 0, count: record.count)
    let (base, live, identity) = record.withUnsafeBytes { bytes in
      (
        PageMapBase(decoding: bytes), PageMapLive(decoding: bytes),
        try? PageMapIdentity(decoding: bytes)
      )
    }
    if let base {
      again.withUnsafeMutableBytes { base.encode(into: $0) }
      let second = again.withUnsafeBytes { PageMapBase(decoding: $0) }
      try require(second == base, "a base comes back as another one")
    }
    if let live {
      again.withUnsafeMutableBytes { live.encode(into: $0) }
      let second = again.withUnsafeBytes { PageMapLive(decoding: $0) }
      try require(second == live, "a live record comes back as another one")
    }
    if let identity {
      again.withUnsafeMutableBytes { identity.encode(into: $0) }
      let second = again.withUnsafeBytes { try? PageMapIdentity(decoding: $0) }
      try require(second == identity, "an identity comes back as another one")
    }
  }

  /// A whole page-map file, on disk as a node finds it: parts of the input in the places of the
  /// records, sealed where the first byte says so.
  private static func checkPageMapFile(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let sealed = input.byte()
    var file = [UInt8](repeating: 0, count: PageMapLayout.headerBytes)
    func put(_ record: [UInt8], at offset: Int, _ bit: UInt8) {
      var record = record
      if sealed & bit != 0 { seal(&record) }
      file.replaceSubrange(offset..<offset + record.count, with: record)
    }
    let head = sealed & 1 == 0 ? [] : identityHead + [0, 2, 0, 0]
    put(head + input.filled(PageMapIdentity.byteCount - head.count), at: 0, 1)
    for (number, offset) in PageMapLayout.baseOffsets.enumerated() {
      put(input.filled(PageMapBase.byteCount), at: offset, 2 << UInt8(number))
    }
    for (number, offset) in PageMapLayout.liveOffsets.enumerated() {
      put(input.filled(PageMapLive.byteCount), at: offset, 8 << UInt8(number))
    }
    let directory = try TestDirectory()
    let path = try directory.write("map", file + input.rest)
    guard let map = try? PageMapFile(opening: path) else { return }
    let capacity = input.rest.count / PageMapEntry.byteCount
    try require(map.base.pageCount <= capacity, "more pages than there are entries")
    try require(map.live.pageCount <= capacity, "more pages than there are entries")
    let count = map.live.pageCount
    let sum = map.checksumOfEntries(pageCount: count)
    _ = map.changedPages(since: .zero, after: 0, through: count, limit: 10)
    try map.update { editor in
      try editor.resize(to: count + 1)
      try editor.set(Pgno(count + 1), PageMapEntry(txid: TXID(1), checksum: 0))
    }
    try require(map.checksumOfEntries(pageCount: count) == sum, "the entries have changed")
  }

  // MARK: Database

  private static func checkDatabaseHeader(_ bytes: [UInt8]) throws {
    let start = Array("SQLite format 3\u{0}".utf8)
    for header in [bytes, start + bytes] {
      guard let found = DatabaseHeader(header), let stamp = found.stamp else { continue }
      var page = header
      page.withUnsafeMutableBytes { stamp.write(to: $0) }
      try require(DatabaseHeader(page)?.stamp == stamp, "a stamp comes back as another one")
      page.withUnsafeMutableBytes { PositionStamp.clear($0) }
      try require(DatabaseHeader(page)?.stamp == nil, "a stamp is there after it was cleared")
      try require(DatabaseHeader(page)?.pageSize == found.pageSize, "the page size has changed")
    }
  }
}
