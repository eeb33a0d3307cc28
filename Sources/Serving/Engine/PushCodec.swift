// Pages that an offline copy pushes, as bytes for their way to the primary. Layout: docs/PROTOCOL.md

import NIOCore
import Store
import WALShip

extension EngineReader {
  mutating func push() throws(ShipProtocolError) -> PagePush {
    let epoch = try reader.epoch()
    let txid = try reader.txid()
    let checksum = DatabaseChecksum(try reader.fixed64())
    var push = PagePush(
      epoch: epoch, txid: txid, checksum: checksum, pageCount: try reader.varint32())
    let count = try count(atLeast: PagePush.pageBytes + 3)
    guard count <= PagePush.pagesMax else { throw .malformed("a push has too many pages") }
    for _ in 0..<count {
      let pgno = Pgno(try reader.varint32())
      guard pgno > push.numbers.last ?? Pgno(0), pgno.rawValue <= push.pageCount else {
        throw .malformed("the pages of a push are not in order")
      }
      let page = try reader.counted(max: PagePush.pageBytes)
      guard page.count == PagePush.pageBytes else { throw .malformed("not a page") }
      push.append(pgno, page)
    }
    return push
  }
}

extension ByteBuffer {
  mutating func writePush(_ push: PagePush) {
    writeVarint(UInt64(push.epoch.rawValue))
    writeVarint(push.txid.rawValue)
    writeInteger(push.checksum.rawValue, endianness: .little)
    writeVarint(UInt64(push.pageCount))
    writeVarint(UInt64(push.numbers.count))
    var pages = push.content
    for pgno in push.numbers {
      writeVarint(UInt64(pgno.rawValue))
      writeVarint(UInt64(PagePush.pageBytes))
      if var page = pages.readSlice(length: PagePush.pageBytes) { writeBuffer(&page) }
    }
  }
}

extension RequestError {
  static let conflictCode = "SQLITE_BUSY_SNAPSHOT"
  static let tooLargeCode = "SQLITE_TOOBIG"

  /// Why a push had no effect.
  public init(_ failure: PagePush.Failure) {
    switch failure {
    case .conflict: self.init(code: Self.conflictCode, message: failure.description)
    case .malformed: self.init(.badRequest, failure.description)
    case .tooLarge: self.init(code: Self.tooLargeCode, message: failure.description)
    }
  }
}
