// Pages as they travel: transactions, pages of a catch-up, and the codec below both.

import NIOCore
import Replica
import Store
import WALShip

extension DecoderCheck {
  static let pageChecks = [
    DecoderCheck("transaction", checkTransaction),
    DecoderCheck("catch-up-pages", checkCatchUpPages),
    DecoderCheck("page-payload", checkPayload),
    DecoderCheck("page-round-trip", checkRoundTrip),
  ]

  /// The body of a live transaction, its pages decoded against one base.
  static func checkTransaction(_ bytes: [UInt8]) throws {
    let base = (0..<512).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    do {
      try bytes.withUnsafeBytes { bytes in
        var reader = BodyReader(bytes)
        let header = try reader.transactionHeader()
        try require(header.pages <= bytes.count, "\(header.pages) pages in \(bytes.count) bytes")
        var again = ByteBuffer()
        again.writeTransactionHeader(header)
        // As many bytes as pages: fewer cannot hold them.
        again.writeRepeatingByte(0, count: header.pages)
        let second = try again.withUnsafeReadableBytes { bytes in
          var reader = BodyReader(bytes)
          return try reader.transactionHeader()
        }
        try require(second == header, "the header comes back as another one")
        for _ in 0..<header.pages {
          let page = try reader.encodedPage()
          try decode(page.encoding, Array(page.payload), base: base)
        }
      }
    } catch is ShipProtocolError {}
  }

  /// The body of a message of catch-up pages.
  static func checkCatchUpPages(_ bytes: [UInt8]) throws {
    guard let pageSize = PageSize(512) else { return }
    let page = PageMemory(bytes: 512)
    var count = 0
    do {
      try bytes.withUnsafeBytes { bytes in
        try CatchUpPages(bytes).forEach(pageSize: pageSize, PageDecoder(), page) { pgno, _ in
          try require(pgno.rawValue > 0 && pgno != pageSize.lockPage, "page \(pgno)")
          count += 1
        }
      }
    } catch is ShipProtocolError {
    } catch is PageCodecError {}
    try require(count <= bytes.count, "\(count) pages in \(bytes.count) bytes")
  }

  /// The first byte is the encoding and the size of the page, the others are the payload.
  private static func checkPayload(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let head = input.byte()
    guard let encoding = PageEncoding(rawValue: head & 3) else { return }
    let size = 512 << Int(head >> 2 & 7)
    let base = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 3) }
    try decode(encoding, Array(input.rest), base: head & 0x80 == 0 ? base : nil, size: size)
  }

  /// Decodes into memory with a margin that must stay as it is; a page that comes out is encoded
  /// and decoded again.
  private static func decode(
    _ encoding: PageEncoding, _ payload: [UInt8], base: [UInt8]?, size: Int = 512
  ) throws {
    let margin = 64
    var memory = [UInt8](repeating: 0xa7, count: size + 2 * margin)
    let decoded = memory.withUnsafeMutableBytes { memory in
      let page = UnsafeMutableRawBufferPointer(rebasing: memory[margin..<margin + size])
      return payload.withUnsafeBytes { payload in
        withBytes(of: base) { base in
          (try? PageDecoder().decode(encoding, payload: payload, base: base, into: page)) != nil
        }
      }
    }
    try require(
      memory.prefix(margin).allSatisfy { $0 == 0xa7 }
        && memory.suffix(margin).allSatisfy { $0 == 0xa7 }, "bytes beside the page were written")
    guard decoded else { return }
    try roundTrip(Array(memory[margin..<margin + size]), base: base)
  }

  /// The input is a page, and after it the page that it was before.
  private static func checkRoundTrip(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let size = 512 << Int(input.byte() & 3)
    let page = input.filled(size)
    try roundTrip(page, base: nil)
    try roundTrip(page, base: input.filled(size))
    // A page whose former version differs in a few places.
    var base = page
    for byte in input.rest.prefix(20) { base[Int(byte) % size] ^= byte | 1 }
    try roundTrip(page, base: base)
  }

  private static func roundTrip(_ page: [UInt8], base: [UInt8]?) throws {
    guard let pageSize = PageSize(page.count) else { return }
    var encoder = PageEncoder(pageSize: pageSize)
    let (encoding, payload) = page.withUnsafeBytes { page in
      withBytes(of: base) { base in
        let encoded = encoder.encode(page: page, base: base)
        return (encoded.encoding, Array(encoded.payload))
      }
    }
    try require(payload.count <= page.count, "the payload is longer than the page")
    try require(base != nil || !encoding.needsBase, "there is no base for \(encoding)")
    var result = [UInt8](repeating: 0, count: page.count)
    try result.withUnsafeMutableBytes { result in
      try payload.withUnsafeBytes { payload in
        try withBytes(of: base) { base in
          try PageDecoder().decode(encoding, payload: payload, base: base, into: result)
        }
      }
    }
    try require(result == page, "\(encoding) gives another page")
  }

  private static func withBytes<Result>(
    of bytes: [UInt8]?, _ body: (UnsafeRawBufferPointer?) throws -> Result
  ) rethrows -> Result {
    guard let bytes else { return try body(nil) }
    return try bytes.withUnsafeBytes { try body($0) }
  }
}
