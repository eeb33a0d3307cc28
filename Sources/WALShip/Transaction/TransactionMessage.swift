// The body of a live transaction: what one commit changed, page by page, each page as a change of
// its previous version where that is smaller. Layout: docs/FORMAT.md

import NIOCore

/// What stands before the pages of a transaction.
public struct TransactionHeader: Equatable, Sendable {
  public var txid: TXID
  /// Pages of the database after the transaction.
  public var pageCount: UInt32
  /// The checksum of the database after the transaction.
  public var checksum: DatabaseChecksum
  /// When the primary captured the commit, by its wall clock, in microseconds since 1970. For
  /// people only.
  public var committedMicroseconds: UInt64
  /// Pages that follow.
  public var pages: Int

  public init(
    txid: TXID, pageCount: UInt32, checksum: DatabaseChecksum, committedMicroseconds: UInt64,
    pages: Int
  ) {
    self.txid = txid
    self.pageCount = pageCount
    self.checksum = checksum
    self.committedMicroseconds = committedMicroseconds
    self.pages = pages
  }
}

/// One encoded page inside a message.
public struct EncodedPage {
  public var pgno: Pgno
  public var encoding: PageEncoding
  public var payload: UnsafeRawBufferPointer
}

extension ByteBuffer {
  /// Appends a page as the encoder left it.
  public mutating func writeEncodedPage(
    _ pgno: Pgno, _ encoding: PageEncoding, _ payload: UnsafeRawBufferPointer
  ) {
    writeVarint(UInt64(pgno.rawValue))
    writeVarint(UInt64(payload.count) << 2 | UInt64(encoding.rawValue))
    writeBytes(payload)
  }

  public mutating func writeTransactionHeader(_ header: TransactionHeader) {
    writeVarint(header.txid.rawValue)
    writeVarint(UInt64(header.pageCount))
    writeInteger(header.checksum.rawValue, endianness: .little)
    writeVarint(header.committedMicroseconds)
    writeVarint(UInt64(header.pages))
  }

  public mutating func writeVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    writeInteger(UInt8(rest))
  }
}

/// Reads the pieces of a message body, refusing whatever does not fit.
public struct BodyReader {
  private let bytes: UnsafeRawBufferPointer
  public private(set) var offset = 0

  public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  public var isAtEnd: Bool { offset == bytes.count }
  public var remaining: Int { bytes.count - offset }

  public mutating func byte() throws(ShipProtocolError) -> UInt8 {
    guard offset < bytes.count else { throw .malformed("a message ends early") }
    defer { offset += 1 }
    return bytes[offset]
  }

  public mutating func varint() throws(ShipProtocolError) -> UInt64 {
    guard let value = Varint.decode(bytes, at: &offset) else {
      throw .malformed("a number ends early or is too long")
    }
    return value
  }

  public mutating func varint32() throws(ShipProtocolError) -> UInt32 {
    guard let value = UInt32(exactly: try varint()) else {
      throw .malformed("a number is too large")
    }
    return value
  }

  public mutating func txid() throws(ShipProtocolError) -> TXID {
    let txid = TXID(try varint())
    guard txid <= TXID.max else { throw .malformed("there is no transaction \(txid)") }
    return txid
  }

  public mutating func epoch() throws(ShipProtocolError) -> Epoch {
    let epoch = Epoch(try varint32())
    guard epoch <= Epoch.max else { throw .malformed("there is no epoch \(epoch)") }
    return epoch
  }

  public mutating func fixed64() throws(ShipProtocolError) -> UInt64 {
    let slice = try take(8)
    return UInt64(littleEndian: slice.loadUnaligned(as: UInt64.self))
  }

  public mutating func take(_ count: Int) throws(ShipProtocolError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= remaining else { throw .malformed("a message ends early") }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  /// A length, then that many bytes, at most `max`.
  public mutating func counted(max: Int) throws(ShipProtocolError) -> UnsafeRawBufferPointer {
    let count = try varint()
    guard count <= UInt64(max) else { throw .malformed("a field is too long") }
    return try take(Int(count))
  }

  public mutating func text(max: Int) throws(ShipProtocolError) -> String {
    guard let text = String(validating: try counted(max: max), as: UTF8.self) else {
      throw .malformed("a text is not UTF-8")
    }
    return text
  }

  public mutating func transactionHeader() throws(ShipProtocolError) -> TransactionHeader {
    let txid = try txid()
    let pageCount = try varint32()
    let checksum = DatabaseChecksum(try fixed64())
    let time = try varint()
    let pages = try varint()
    guard pages <= UInt64(remaining) else {
      throw .malformed("a transaction promises too many pages")
    }
    return TransactionHeader(
      txid: txid, pageCount: pageCount, checksum: checksum, committedMicroseconds: time,
      pages: Int(pages))
  }

  /// The next encoded page; its payload lies in the message.
  public mutating func encodedPage() throws(ShipProtocolError) -> EncodedPage {
    let pgno = try varint32()
    guard pgno > 0 else { throw .malformed("a page has the number 0") }
    let word = try varint()
    guard let encoding = PageEncoding(rawValue: UInt8(word & 3)), word >> 2 <= 65536 else {
      throw .malformed("a page is too long")
    }
    return EncodedPage(pgno: Pgno(pgno), encoding: encoding, payload: try take(Int(word >> 2)))
  }
}
