// What a node at the other end of a ship connection can send.

import NIOCore
import WALShip

extension DecoderCheck {
  static let shipChecks = [
    DecoderCheck("ship-messages", checkMessages),
    DecoderCheck("ship-bodies", checkBodies),
    DecoderCheck("ship-fragments", checkFragments),
    DecoderCheck("ship-receiver", checkReceiver),
  ]

  // MARK: Framing

  /// A stream of messages is the same however it is cut, and what was read is what was written.
  private static func checkMessages(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let step = Int(input.byte()) + 1
    let stream = Array(input.rest)
    let whole = try messages(of: stream, step: max(1, stream.count))
    let cut = try messages(of: stream, step: step)
    try require(whole.messages == cut.messages, "cut every \(step) bytes, other messages come out")
    try require(whole.error == cut.error, "cut every \(step) bytes, it ends in another way")
    var written = ByteBuffer()
    for message in whole.messages { written.writeShipMessage(message) }
    try require(
      stream.starts(with: written.readableBytesView), "the messages are not those in the stream")
  }

  private static func messages(
    of stream: [UInt8], step: Int
  ) throws -> (messages: [ShipMessage], error: ShipProtocolError?) {
    var messages: [ShipMessage] = []
    var buffer = ByteBuffer()
    for start in stride(from: 0, to: stream.count, by: step) {
      buffer.writeBytes(stream[start..<min(start + step, stream.count)])
      do {
        while let message = try buffer.readShipMessage() { messages.append(message) }
      } catch {
        return (messages, error)
      }
      try require(
        buffer.readableBytes < ShipMessage.bytesMax, "\(buffer.readableBytes) bytes wait for more")
    }
    return (messages, nil)
  }

  // MARK: Bodies

  /// The first byte is the kind of the message, the others are its body.
  private static func checkBodies(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let kind = ShipMessageKind(rawValue: input.byte())
    let body = ByteBuffer(bytes: input.rest)
    do {
      switch kind {
      case .hello: try again(body, { try ShipHello(decoding: $0) }) { $0.encode() }
      case .challenge: try again(body, { try ShipChallenge(decoding: $0) }) { $0.encode() }
      case .join: try again(body, { try ShipJoin(decoding: $0) }) { $0.encode() }
      case .welcome: try again(body, { try ShipWelcome(decoding: $0) }) { $0.encode() }
      case .refuse: _ = try ShipRefusal(decoding: body)  // repairs its text, so it need not stay
      case .transaction: try checkTransaction(Array(input.rest))
      case .catchUp:
        try again(body, { try ShipCatchUp(decoding: $0) }) { $0.encode() }
        let begun = try ShipCatchUp(decoding: body)
        let (_, overflow) = Int(begun.pages).multipliedReportingOverflow(by: Int(begun.pageSize))
        try require(!overflow, "the announced bytes cannot be counted")
      case .pages: try checkCatchUpPages(Array(input.rest))
      case .roundEnd: try again(body, { try ShipRoundEnd(decoding: $0) }) { $0.encode() }
      case .heartbeat, .acknowledge, .position:
        try again(body, { try ShipHeartbeat(decoding: $0) }) { $0.encode() }
      case .pageChecksums:
        try again(body, { try ShipPageChecksums(decoding: $0) }) { $0.encode() }
        for scope in [FollowerPages.Scope.all, .since(TXID(3))] {
          var pages = FollowerPages(scope)
          try? pages.add(try ShipPageChecksums(decoding: body))
          _ = pages.lacks(Pgno(1), PageMapEntry(txid: TXID(1), checksum: 2))
        }
      case .request, .response: try again(body, { try ShipFragment(decoding: $0) }) { $0.encode() }
      case .resynchronize:
        try again(body, { try ShipResynchronize(decoding: $0) }) { $0.encode() }
      case .attach, .catalogue, .news, .listed, .open, .end, .window, .change, .changed:
        try checkTrunk(kind, body)
      case nil: break
      }
    } catch is ShipProtocolError {
      // Refused, as it may be.
    }
  }

  /// Those of links with many databases.
  private static func checkTrunk(_ kind: ShipMessageKind?, _ body: ByteBuffer) throws {
    switch kind {
    case .attach:
      try again(body, { try ShipAttach(decoding: $0) }) { $0.encode() }
      _ = try ShipAttach(decoding: body).filter.matches("eu-a_1")
    case .catalogue: try again(body, { try ShipCatalogue(decoding: $0) }) { $0.encode() }
    case .news: try again(body, { try ShipNews(decoding: $0) }) { $0.encode() }
    case .open: try again(body, { try ShipOpen(decoding: $0) }) { $0.encode() }
    case .end: _ = try ShipEnd(decoding: body)  // repairs its text, so it need not stay
    case .window: try again(body, { try ShipWindow(decoding: $0) }) { $0.encode() }
    case .change: try again(body, { try ShipChange(decoding: $0) }) { $0.encode() }
    case .changed: _ = try ShipChanged(decoding: body)  // repairs its texts
    default: break
    }
  }

  /// Decodes, and requires that the result survives another round.
  private static func again<Value: Equatable>(
    _ bytes: ByteBuffer, _ decode: (ByteBuffer) throws -> Value, _ encode: (Value) -> ByteBuffer
  ) throws {
    let value = try decode(bytes)
    let second: Value
    do { second = try decode(encode(value)) } catch {
      throw TestFailure("what was decoded is refused when it comes back: \(value): \(error)")
    }
    try require(second == value, "\(value) comes back as \(second)")
  }

  // MARK: State behind the decoders

  /// Pieces of requests: what is kept is bounded, whatever the pieces say.
  private static func checkFragments(_ bytes: [UInt8]) throws {
    let bytesMax = 1000
    var input = InputReader(bytes)
    var assembler = FragmentAssembler(bytesMax: bytesMax)
    while !input.rest.isEmpty {
      let head = input.byte()
      let piece = ShipFragment(
        request: UInt64(head >> 1 & 7), isLast: head & 1 != 0,
        bytes: ByteBuffer(bytes: input.take(Int(input.byte()))))
      let decoded = try ShipFragment(decoding: piece.encode())
      try require(decoded == piece, "a piece comes back as another one")
      guard let whole = try? assembler.receive(decoded) else { continue }
      try require(whole.readableBytes <= bytesMax + 255, "a whole of \(whole.readableBytes) bytes")
      let pieces = ShipFragment.split(whole, request: 1)
      try require(pieces.last?.isLast == true, "the last piece does not say so")
    }
  }

  /// A follower that is told any numbers in any order.
  private static func checkReceiver(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    var body = ByteBuffer(bytes: input.take(40))
    guard let start = try? ShipHeartbeat(decoding: body) else { return }
    var receiver = ShipReceiver(at: start.txid)
    while !input.rest.isEmpty {
      let event = input.byte()
      body = ByteBuffer(bytes: input.take(Int(event >> 4) + 3))
      guard let told = try? ShipHeartbeat(decoding: body) else { continue }
      switch event & 7 {
      case 0...3:
        if receiver.received(told.txid) == .apply { receiver.applied(told.txid) }
      case 4: _ = receiver.catchUpBegan(isComparison: event & 8 != 0)
      case 5: receiver.roundEnded(at: told.txid, isConsistent: event & 8 != 0)
      case 6: receiver.foundMismatch()
      default:
        let history = EpochHistory(
          current: told.epoch, forks: [EpochFork(epoch: start.epoch, last: told.txid)])
        if let common = history.lastCommon(epoch: start.epoch, txid: start.txid) {
          try require(common <= start.txid, "a later transaction than both have")
        }
      }
    }
  }
}
