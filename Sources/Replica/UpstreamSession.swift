// One connection to the node above: the handshake, then whatever it sends, taken to the content of
// this replica.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// The handler of the upstream connection; all of it runs on the applier's event loop.
final class UpstreamSession: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum Phase {
    case hello(nonce: [UInt8])
    case join(nonces: [[UInt8]])
    case serving(ShipReceiver)
    case closed
  }

  let upstream: Upstream
  var context: ChannelHandlerContext?
  var phase: Phase
  var received = ByteBuffer()
  var responses = FragmentAssembler(bytesMax: 64 << 20)
  var heardNanoseconds = monotonicNanoseconds()
  var epoch = Epoch(0)
  var timer: RepeatedTask?
  var ticks = 0
  var hasUnacknowledged = false
  var reason: String?
  var comparisons = 0
  static let comparisonsMax = 3

  init(upstream: Upstream) {
    self.upstream = upstream
    phase = .hello(nonce: ShipSecret.nonce())
  }

  var isServing: Bool { if case .serving = phase { true } else { false } }
  var content: ReplicaContent { upstream.content }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    if case .hello(let nonce) = phase {
      send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
      context.flush()
    }
    let session = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in session.value.tick() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    if case .hello = phase {
      close(reason: "the upstream closed the link at once: does it want TLS (--tls-ca)?")
    } else {
      close(reason: "the upstream closed the link")
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { close(reason: brief(error)) }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    heardNanoseconds = monotonicNanoseconds()
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { try receive(message) }
    } catch {
      fail(error)
    }
    received.discardReadBytes()
  }

  /// One publish and one acknowledgement for all that was read in one go.
  func channelReadComplete(context: ChannelHandlerContext) {
    guard isServing else { return context.flush() }
    do {
      try publish()
    } catch {
      fail(error)
    }
    if hasUnacknowledged { acknowledge(.acknowledge) }
    upstream.update { [heardNanoseconds] in $0.heardNanoseconds = heardNanoseconds }
    context.flush()
  }

  func fail(_ error: any Error) {
    upstream.logger.error("cannot apply what the upstream sent", metadata: ["error": "\(error)"])
    if error is PageCodecError || error is CaptureError { upstream.wantsComparison = true }
    close(reason: "\(error)")
  }

  func close(reason: String?) {
    if case .closed = phase { return }
    phase = .closed
    timer?.cancel()
    context?.close(promise: nil)
    context = nil
    upstream.ended(reason: self.reason ?? reason)
  }

  func tick() {
    let silence = (monotonicNanoseconds() - heardNanoseconds) / 1_000_000_000
    let limit =
      isServing ? ShipTiming.silenceSecondsMax : ShipTiming.handshakeSecondsMax
    if silence >= UInt64(limit) {
      return close(reason: "the upstream fell silent for \(silence) s")
    }
    ticks += 1
    if isServing, ticks % ShipTiming.heartbeatSecondsUp == 0 {
      acknowledge(.heartbeat)
      context?.flush()
    }
  }

  // MARK: Messages

  func receive(_ message: ShipMessage) throws {
    switch (phase, message.kind) {
    case (.hello(let nonce), .challenge): try receiveChallenge(message.body, nonce)
    case (.join(let nonces), .welcome): try receiveWelcome(message.body, nonces)
    case (.serving, .transaction): try receiveTransaction(message.body)
    case (.serving(var receiver), .catchUp):
      let announcement = try ShipCatchUp(decoding: message.body)
      try publish()
      if receiver.catchUpBegan(isComparison: announcement.isComparison) {
        content.catchUpBegan(announcement)
        upstream.update { $0.state = content.database == nil ? "bootstrapping" : "catching up" }
      }
      phase = .serving(receiver)
    case (.serving(let receiver), .pages):
      guard receiver.acceptsPages else { return }
      try content.stagePages(message.body)
      reportProgress()
    case (.serving, .roundEnd): try receiveRoundEnd(ShipRoundEnd(decoding: message.body))
    case (.serving, .heartbeat):
      let beat = try ShipHeartbeat(decoding: message.body)
      noteHead(beat.txid)
      upstream.update { $0.contactMilliseconds = beat.contactMilliseconds }
    case (.serving, .response):
      let piece = try ShipFragment(decoding: message.body)
      if let whole = try responses.receive(piece) {
        upstream.received(try EngineResponse(decoding: whole), for: piece.request)
      }
    case (_, .refuse): try receiveRefusal(ShipRefusal(decoding: message.body))
    case (.closed, _): return
    default: throw ShipProtocolError.unexpected("\(message.kind)")
    }
  }

  func receiveTransaction(_ body: ByteBuffer) throws {
    guard case .serving(var receiver) = phase else { return }
    let header = try body.withUnsafeReadableBytes { bytes in
      var reader = BodyReader(bytes)
      return try reader.transactionHeader()
    }
    noteHead(header.txid)
    switch receiver.received(header.txid) {
    case .ignore: return
    case .resynchronize(let reason):
      return try resynchronize(reason)
    case .apply:
      guard try content.stage(body, header, epoch: epoch) == .staged else {
        return try resynchronize("transaction \(header.txid) does not add up")
      }
      receiver.applied(header.txid)
      phase = .serving(receiver)
      hasUnacknowledged = true
    }
  }

  func receiveRoundEnd(_ end: ShipRoundEnd) throws {
    guard case .serving(var receiver) = phase, receiver.acceptsPages, end.isConsistent else {
      return
    }
    guard try content.endRound(end) == .staged else {
      return try resynchronize("the pages of a catch-up do not add up")
    }
    receiver.roundEnded(at: end.position.txid, isConsistent: true)
    phase = .serving(receiver)
    epoch = end.position.epoch
    hasUnacknowledged = true
    comparisons = 0
    upstream.update { status in
      status.state = "streaming"
      status.progress = nil
    }
    try noteApplied()
    upstream.onPublish()
    if !content.damaged.isEmpty { try repair() }
  }

  func publish() throws {
    guard hasUnacknowledged else { return }
    try content.publish()
    try noteApplied()
    upstream.onPublish()
  }

  // MARK: Sending

  func send(_ request: EngineRequest, number: UInt64) {
    for piece in ShipFragment.split(request.encode(), request: number) {
      send(ShipMessage(.request, body: piece.encode()))
    }
    context?.flush()
  }

  func acknowledge(_ kind: ShipMessageKind) {
    hasUnacknowledged = false
    let txid = content.database?.tracker.position.txid ?? .zero
    send(
      ShipMessage(
        kind, body: ShipHeartbeat(epoch: epoch, txid: txid, contactMilliseconds: 0).encode()))
  }

  func send(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    context?.write(wrapOutboundOut(bytes), promise: nil)
  }

  // MARK: Status

  func noteHead(_ txid: TXID) {
    let applied = content.database?.tracker.position.txid ?? .zero
    upstream.update { status in
      status.head = max(status.head, txid)
      status.heardNanoseconds = heardNanoseconds
      if status.head > applied, status.behindSinceNanoseconds == nil {
        status.behindSinceNanoseconds = heardNanoseconds
      }
    }
  }

  func noteApplied() throws {
    let applied = content.database?.tracker.position.txid ?? .zero
    try content.checkServing(head: upstream.status.head)
    upstream.update { status in
      if applied >= status.head {
        status.head = applied
        status.behindSinceNanoseconds = nil
      }
    }
  }

  func reportProgress() {
    upstream.update { $0.progress = content.progress }
  }
}
