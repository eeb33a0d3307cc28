// The 32 bytes that a -wal file begins with.
//
// Source: https://www.sqlite.org/fileformat2.html#walformat

/// The two numbers that tell the frames of one WAL generation from leftovers of earlier ones.
public struct Salts: Hashable, Sendable {
  public var first: UInt32
  public var second: UInt32

  /// Both as decoded from big-endian bytes.
  public init(first: UInt32, second: UInt32) {
    self.first = first
    self.second = second
  }
}

/// The header of a WAL file. Its integers are big-endian, whatever the order of its checksums.
public struct WALHeader: Equatable, Sendable {
  /// Whether the words of checksums, here and in all frames, are taken as big-endian.
  public let bigEndianChecksums: Bool
  public let pageSize: PageSize
  /// How many times the WAL was begun anew.
  public let checkpointSequence: UInt32
  public let salts: Salts
  /// The checksum of the first 24 bytes, which the chain of the frames starts from.
  public let checksum: WALChecksum

  public static let byteCount = 32

  /// The size of a frame, header and page, in bytes.
  public var frameBytes: Int { FrameHeader.byteCount + pageSize.bytes }

  /// A header with little-endian checksums: magic 0x377f0682, as SQLite writes on this hardware.
  public init(pageSize: PageSize, checkpointSequence: UInt32, salts: Salts) {
    self.bigEndianChecksums = false
    self.pageSize = pageSize
    self.checkpointSequence = checkpointSequence
    self.salts = salts
    var checksum = WALChecksum.zero
    checksum.add(Self.magic.byteSwapped, Self.version.byteSwapped)
    checksum.add(UInt32(pageSize.bytes).byteSwapped, checkpointSequence.byteSwapped)
    checksum.add(salts.first.byteSwapped, salts.second.byteSwapped)
    self.checksum = checksum
  }

  /// Reads the header from the first 32 bytes of `bytes` and verifies all of it.
  ///
  /// - Throws: `.truncated` on a short read (wait for more bytes); anything else means that
  ///   SQLite too would take this WAL as empty.
  public init(decoding bytes: UnsafeRawBufferPointer) throws(WALFormatError) {
    guard bytes.count >= Self.byteCount else {
      throw .truncated(neededBytes: Self.byteCount, gotBytes: bytes.count)
    }
    let magic = bytes.bigEndianWord(at: 0)
    guard magic & ~1 == Self.magic else { throw .badMagic(magic) }
    let version = bytes.bigEndianWord(at: 4)
    guard version == Self.version else { throw .unsupportedVersion(version) }
    let size = bytes.bigEndianWord(at: 8)
    guard let pageSize = PageSize(Int(size)) else { throw .badPageSize(size) }

    var expected = WALChecksum.zero
    expected.update(UnsafeRawBufferPointer(rebasing: bytes[..<24]), bigEndian: magic & 1 == 1)
    let got = WALChecksum(s0: bytes.bigEndianWord(at: 24), s1: bytes.bigEndianWord(at: 28))
    guard expected == got else { throw .headerChecksumMismatch(expected: expected, got: got) }

    self.bigEndianChecksums = magic & 1 == 1
    self.pageSize = pageSize
    self.checkpointSequence = bytes.bigEndianWord(at: 12)
    self.salts = Salts(first: bytes.bigEndianWord(at: 16), second: bytes.bigEndianWord(at: 20))
    self.checksum = got
  }

  /// Writes the header to the first 32 bytes of `bytes`.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) {
    precondition(bytes.count >= Self.byteCount, "a WAL header takes 32 bytes")
    bytes.setBigEndianWord(Self.magic | (bigEndianChecksums ? 1 : 0), at: 0)
    bytes.setBigEndianWord(Self.version, at: 4)
    bytes.setBigEndianWord(UInt32(pageSize.bytes), at: 8)
    bytes.setBigEndianWord(checkpointSequence, at: 12)
    bytes.setBigEndianWord(salts.first, at: 16)
    bytes.setBigEndianWord(salts.second, at: 20)
    bytes.setBigEndianWord(checksum.s0, at: 24)
    bytes.setBigEndianWord(checksum.s1, at: 28)
  }

  /// The lowest bit states the order of the checksum words: 1 is big-endian.
  private static let magic: UInt32 = 0x377f_0682
  private static let version: UInt32 = 3_007_000
}

// The callers have checked the length.
extension UnsafeRawBufferPointer {
  @inline(__always)
  func bigEndianWord(at offset: Int) -> UInt32 {
    loadUnaligned(fromByteOffset: offset, as: UInt32.self).bigEndian
  }
}

extension UnsafeMutableRawBufferPointer {
  @inline(__always)
  func setBigEndianWord(_ value: UInt32, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
  }
}
