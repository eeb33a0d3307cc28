import NIOCore
import Testing

@testable import WALShip

private func message(_ count: Int, seed: UInt64 = 1) -> ShipMessage {
  var random = TestRandom(seed: seed)
  return ShipMessage(.pages, stream: 3, body: ByteBuffer(bytes: random.bytes(count)))
}

private func encoded(_ messages: [ShipMessage]) -> [UInt8] {
  var buffer = ByteBuffer()
  for message in messages { buffer.writeShipMessage(message) }
  return Array(buffer.readableBytesView)
}

@Suite struct ShipMessageTests {
  @Test func messagesComeOutAsTheyWentInHoweverTheyAreCut() throws {
    let messages = [message(0), message(1), message(1000), message(70_000)]
    let bytes = encoded(messages)
    var random = TestRandom(seed: 7)
    for _ in 0..<50 {
      var received: [ShipMessage] = []
      var buffer = ByteBuffer()
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = min(rest.count, Int.random(in: 1...9000, using: &random))
        buffer.writeBytes(rest.prefix(count))
        rest = rest.dropFirst(count)
        while let message = try buffer.readShipMessage() { received.append(message) }
      }
      #expect(received == messages)
    }
  }

  @Test func everyPrefixOfAMessageAsksForMore() throws {
    let bytes = encoded([message(40)])
    for count in 0..<bytes.count {
      var buffer = ByteBuffer(bytes: bytes.prefix(count))
      let message = try buffer.readShipMessage()
      #expect(message == nil)
    }
  }

  @Test func row13_anyFlippedBitIsFound() {
    let bytes = encoded([message(40)])
    for bit in 0..<bytes.count * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      var buffer = ByteBuffer(bytes: damaged)
      #expect(throws: ShipProtocolError.self, "bit \(bit)") { _ = try buffer.readShipMessage() }
    }
  }

  @Test func aLengthAboveTheLimitIsRefusedBeforeAnythingIsKept() {
    let length = UInt32(ShipMessage.bytesMax + 1)
    let check = (0..<4).reduce(ShipMessageKind.pages.rawValue ^ 0xa5) {
      $0 ^ UInt8(truncatingIfNeeded: length >> UInt32($1 * 8))
    }
    var buffer = ByteBuffer()
    buffer.writeInteger(length, endianness: .little)
    buffer.writeInteger(ShipMessageKind.pages.rawValue)
    buffer.writeInteger(check)
    buffer.writeInteger(0 as UInt16)
    #expect(throws: ShipProtocolError.tooLong(ShipMessage.bytesMax + 1)) {
      _ = try buffer.readShipMessage()
    }
  }

  @Test func fragmentsMakeTheWholeAgain() throws {
    var random = TestRandom(seed: 3)
    let whole = ByteBuffer(bytes: random.bytes(ShipFragment.bytesMax * 2 + 17))
    var assembler = FragmentAssembler(bytesMax: 1 << 20)
    let pieces = ShipFragment.split(whole, request: 9)
    #expect(pieces.count == 3)
    for piece in pieces.dropLast() {
      let incomplete = try assembler.receive(ShipFragment(decoding: piece.encode()))
      #expect(incomplete == nil)
    }
    let last = try #require(pieces.last)
    let complete = try assembler.receive(ShipFragment(decoding: last.encode()))
    #expect(complete == whole)
  }

  @Test func fragmentsThatNeverEndAreCutOff() throws {
    var assembler = FragmentAssembler(bytesMax: 100)
    let piece = ShipFragment(
      request: 1, isLast: false, bytes: ByteBuffer(bytes: [UInt8](repeating: 1, count: 60)))
    let incomplete = try assembler.receive(piece)
    #expect(incomplete == nil)
    #expect(throws: ShipProtocolError.tooLong(120)) { _ = try assembler.receive(piece) }
  }

  /// They would cost memory and count for nothing.
  @Test func emptyFragmentsAreRefused() {
    var assembler = FragmentAssembler(bytesMax: 100)
    let piece = ShipFragment(request: 1, isLast: false, bytes: ByteBuffer())
    #expect(throws: ShipProtocolError.malformed("an empty piece")) {
      _ = try assembler.receive(piece)
    }
  }
}

@Suite struct HandshakeTests {
  private let node = NodeIdentity(
    id: DatabaseID(high: 1, low: 2), name: "tokyo-1", software: "0.1.0", sqlite: "3.40.1")
  private let position = Position(
    database: DatabaseID(high: 0xabcd_ef01_2345_6789, low: 7), epoch: Epoch(3), txid: TXID(1042),
    checksum: DatabaseChecksum(99))
  private let history = EpochHistory(
    current: Epoch(3),
    forks: [EpochFork(epoch: Epoch(1), last: TXID(10)), EpochFork(epoch: Epoch(2), last: TXID(20))])

  private var bodies: [(ByteBuffer, (ByteBuffer) throws -> Void)] {
    let nonce = [UInt8](repeating: 5, count: ShipHello.nonceBytes)
    return [
      (ShipHello(nonce: nonce).encode(), { _ = try ShipHello(decoding: $0) }),
      (
        ShipChallenge(version: 1, nonce: nonce, proof: [1, 2, 3]).encode(),
        { _ = try ShipChallenge(decoding: $0) }
      ),
      (
        ShipJoin(node: node, want: .follow, position: position, pageSize: 4096).encode(),
        { _ = try ShipJoin(decoding: $0) }
      ),
      (
        ShipWelcome(
          node: node, lineage: [node.id], plan: .compare, position: position, history: history,
          pageSize: 4096, pageCount: 12
        ).encode(), { _ = try ShipWelcome(decoding: $0) }
      ),
      (ShipRefusal(.loop, "a loop").encode(), { _ = try ShipRefusal(decoding: $0) }),
      (
        ShipRoundEnd(isConsistent: true, position: position, history: history, pageCount: 5)
          .encode(),
        { _ = try ShipRoundEnd(decoding: $0) }
      ),
      (
        ShipCatchUp(pages: 7, pageSize: 512, isComparison: true).encode(),
        { _ = try ShipCatchUp(decoding: $0) }
      ),
      (
        ShipPageChecksums(first: Pgno(1), isLast: true, checksums: [1, 2, 3]).encode(),
        { _ = try ShipPageChecksums(decoding: $0) }
      ),
      (
        ShipHeartbeat(epoch: Epoch(1), txid: TXID(5), contactMilliseconds: 3).encode(),
        { _ = try ShipHeartbeat(decoding: $0) }
      ),
    ]
  }

  @Test func whatIsWrittenIsRead() throws {
    let join = ShipJoin(node: node, want: .compare, position: position, pageSize: 65536)
    #expect(try ShipJoin(decoding: join.encode()) == join)
    let welcome = ShipWelcome(
      node: node, lineage: [node.id, DatabaseID(high: 9, low: 9)], plan: .follow,
      position: position, history: history, pageSize: 4096, pageCount: 12)
    #expect(try ShipWelcome(decoding: welcome.encode()) == welcome)
    let end = ShipRoundEnd(isConsistent: true, position: position, history: history, pageCount: 5)
    #expect(try ShipRoundEnd(decoding: end.encode()) == end)
  }

  @Test func noPrefixOfABodyIsTakenForTheWhole() {
    for (body, decode) in bodies {
      for count in 0..<body.readableBytes {
        let prefix = body.getSlice(at: body.readerIndex, length: count) ?? ByteBuffer()
        // The refusal's text may end anywhere; everything else knows its length.
        #expect(throws: ShipProtocolError.self) { try decode(prefix) }
      }
    }
  }

  @Test func garbageNeverTraps() {
    var random = TestRandom(seed: 11)
    for _ in 0..<5000 {
      let bytes = ByteBuffer(bytes: random.bytes(Int.random(in: 0...120, using: &random)))
      for (_, decode) in bodies { try? decode(bytes) }
    }
  }

  /// A receiver counts on from such a number, and reckons with such a size.
  @Test func numbersThatNoDatabaseReachesAreRefused() throws {
    let beat = ShipHeartbeat(epoch: Epoch(1), txid: TXID(.max), contactMilliseconds: 0)
    #expect(throws: ShipProtocolError.self) { _ = try ShipHeartbeat(decoding: beat.encode()) }
    let later = ShipHeartbeat(epoch: Epoch(.max), txid: TXID(1), contactMilliseconds: 0)
    #expect(throws: ShipProtocolError.self) { _ = try ShipHeartbeat(decoding: later.encode()) }
    var place = position
    place.txid = TXID(.max)
    let end = ShipRoundEnd(isConsistent: true, position: place, history: history, pageCount: 5)
    #expect(throws: ShipProtocolError.self) { _ = try ShipRoundEnd(decoding: end.encode()) }
    let begin = ShipCatchUp(pages: .max, pageSize: .max, isComparison: false)
    #expect(throws: ShipProtocolError.self) { _ = try ShipCatchUp(decoding: begin.encode()) }
    var header = ByteBuffer()
    header.writeTransactionHeader(
      TransactionHeader(
        txid: TXID(.max), pageCount: 1, checksum: .empty, committedMicroseconds: 0, pages: 0))
    #expect(throws: ShipProtocolError.self) {
      try header.withUnsafeReadableBytes { bytes in
        var reader = BodyReader(bytes)
        _ = try reader.transactionHeader()
      }
    }
  }

  @Test func row24_versionsAreNegotiatedDownAndRefusedWhenNoneFits() {
    #expect(ShipProtocolVersion.choose(lowest: 1, highest: 9) == 1)
    #expect(ShipProtocolVersion.choose(lowest: 200, highest: 300) == nil)
    #expect(ShipProtocolVersion.choose(lowest: 0, highest: 0) == nil)
  }
}
