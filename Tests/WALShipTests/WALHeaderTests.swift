import Testing

@testable import WALShip

private func decode(_ bytes: [UInt8]) throws -> WALHeader {
  try bytes.withUnsafeBytes { try WALHeader(decoding: $0) }
}

private func encode(_ header: WALHeader) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: WALHeader.byteCount)
  bytes.withUnsafeMutableBytes { header.encode(into: $0) }
  return bytes
}

@Test(arguments: ["three-commits", "restarted", "open-transaction"])
func walHeaderOfSQLiteIsReadAndWrittenUnchanged(name: String) throws {
  let recorded = Array(try fixture(name)[..<WALHeader.byteCount])
  let header = try decode(recorded)
  #expect(header.pageSize.bytes == 512)
  #expect(!header.bigEndianChecksums)
  #expect(encode(header) == recorded)
  let built = WALHeader(
    pageSize: header.pageSize, checkpointSequence: header.checkpointSequence, salts: header.salts)
  #expect(built == header)
}

@Test(arguments: allPageSizes)
func walHeaderRoundTripsForEachPageSize(size: Int) throws {
  let header = WALHeader(
    pageSize: try testPageSize(size), checkpointSequence: 7,
    salts: Salts(first: 0xDEAD_BEEF, second: 0xFFFF_FFFF))
  #expect(try decode(encode(header)) == header)
}

@Test func walHeaderWithBigEndianChecksumsIsUnderstood() throws {
  let header = try decode(bigEndianHeader())
  #expect(header.bigEndianChecksums)
  #expect(encode(header) == bigEndianHeader())
}

@Test func walHeaderCutShortSaysHowManyBytesThereAre() throws {
  let recorded = try fixture("three-commits")
  for count in 0..<WALHeader.byteCount {
    #expect(throws: WALFormatError.truncated(neededBytes: 32, gotBytes: count)) {
      try decode(Array(recorded[..<count]))
    }
  }
}

@Test func walHeaderWithAnyBitFlippedIsRefused() throws {
  let recorded = Array(try fixture("three-commits")[..<WALHeader.byteCount])
  for bit in 0..<WALHeader.byteCount * 8 {
    var bytes = recorded
    bytes[bit / 8] ^= 1 << (bit % 8)
    #expect(throws: WALFormatError.self) { try decode(bytes) }
  }
}

@Test func walHeaderErrorsNameTheField() throws {
  let recorded = try fixture("three-commits")
  func with(_ offset: Int, _ value: UInt8) -> [UInt8] {
    var bytes = recorded
    bytes[offset] = value
    return bytes
  }
  #expect(throws: WALFormatError.badMagic(0x3770_0682)) { try decode(with(1, 0x70)) }
  #expect(throws: WALFormatError.unsupportedVersion(3_007_001)) { try decode(with(7, 0x19)) }
  #expect(throws: WALFormatError.badPageSize(513)) { try decode(with(11, 1)) }
  #expect(throws: WALFormatError.badPageSize(0x8000_0200)) { try decode(with(8, 0x80)) }
}

@Test func frameHeaderRoundTripsAndRefusesPageZero() throws {
  let frame = FrameHeader(
    pgno: Pgno(0xFFFF_FFFF), commitPageCount: 3, salts: Salts(first: 1, second: 2),
    checksum: WALChecksum(s0: 3, s1: 4))
  var bytes = [UInt8](repeating: 0, count: FrameHeader.byteCount)
  bytes.withUnsafeMutableBytes { frame.encode(into: $0) }
  #expect(bytes[..<8] == [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 3])
  #expect(try bytes.withUnsafeBytes { try FrameHeader(decoding: $0) } == frame)
  #expect(throws: WALFormatError.truncated(neededBytes: 24, gotBytes: 23)) {
    try Array(bytes[..<23]).withUnsafeBytes { try FrameHeader(decoding: $0) }
  }
  bytes.replaceSubrange(0..<4, with: [0, 0, 0, 0])
  #expect(throws: WALFormatError.zeroPgno) {
    try bytes.withUnsafeBytes { try FrameHeader(decoding: $0) }
  }
}

/// A header as a big-endian machine writes it, for pages of 512 bytes.
func bigEndianHeader() -> [UInt8] {
  let words: [UInt32] = [0x377f_0683, 3_007_000, 512, 1, 0x1111_2222, 0x3333_4444]
  var bytes = words.flatMap { word in
    (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * $0)) }
  }
  var checksum = WALChecksum.zero
  bytes.withUnsafeBytes { checksum.update($0, bigEndian: true) }
  for word in [checksum.s0, checksum.s1] {
    bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * $0)) }
  }
  return bytes
}
