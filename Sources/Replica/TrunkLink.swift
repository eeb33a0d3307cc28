// The connection below a `Trunk`: the handshake, and messages to and from streams.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// The handler of the link above; all of it runs on the trunk's event loop.
final class TrunkLink: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum Phase {
    case hello(nonce: [UInt8])
    case attach(nonces: [[UInt8]])
    case serving
    case closed
  }

  private let trunk: Trunk
  /// The folder that this node holds a copy of.
  private let identity: DatabaseID?
  private var context: ChannelHandlerContext?
  private var phase: Phase
  private var received = ByteBuffer()
  private var heardNanoseconds = monotonicNanoseconds()
  private var timer: RepeatedTask?
  private var ticks = 0
  private var reason: String?
  /// What was read in one go, by stream.
  private var batches: [UInt16: [ShipMessage]] = [:]

  init(trunk: Trunk, identity: DatabaseID?) {
    self.trunk = trunk
    self.identity = identity
    phase = .hello(nonce: ShipSecret.nonce())
  }

  var isServing: Bool { if case .serving = phase { true } else { false } }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    if case .hello(let nonce) = phase {
      let hello = ShipHello(nonce: nonce, versions: ShipProtocolVersion.many)
      send(ShipMessage(.hello, body: hello.encode()))
      context.flush()
    }
    let link = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in link.value.tick() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    if case .hello = phase {
      close("the upstream closed the link at once: does it want TLS (--tls-ca)?")
    } else {
      close("the upstream closed the link")
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { close(brief(error)) }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    heardNanoseconds = monotonicNanoseconds()
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { try receive(message) }
    } catch {
      trunk.logger.error("the upstream broke the protocol", metadata: ["error": "\(error)"])
      close("\(error)")
    }
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    deliver()
    if isServing { trunk.heard() }
    context.flush()
  }

  func close(_ reason: String?) {
    if case .closed = phase { return }
    phase = .closed
    batches = [:]
    timer?.cancel()
    context?.close(promise: nil)
    context = nil
    trunk.ended(self.reason ?? reason)
  }

  private func tick() {
    let silence = (monotonicNanoseconds() - heardNanoseconds) / 1_000_000_000
    let limit = isServing ? ShipTiming.silenceSecondsMax : ShipTiming.handshakeSecondsMax
    if silence >= UInt64(limit) { return close("the upstream fell silent for \(silence) s") }
    ticks += 1
    guard isServing, ticks % ShipTiming.heartbeatSecondsUp == 0 else { return }
    let beat = ShipHeartbeat(epoch: Epoch(0), txid: .zero, contactMilliseconds: 0)
    send(ShipMessage(.heartbeat, body: beat.encode()))
    flush()
  }

  // MARK: Messages

  private func receive(_ message: ShipMessage) throws {
    guard message.stream == ShipTrunk.linkStream else { return try receiveOnStream(message) }
    switch (phase, message.kind) {
    case (.closed, _): return
    case (.hello(let nonce), .challenge): try receiveChallenge(message.body, nonce)
    case (.attach(let nonces), .catalogue): try receiveCatalogue(message.body, nonces)
    case (_, .refuse):
      reason = "refused by the upstream: \(try ShipRefusal(decoding: message.body).message)"
      close(reason)
    case (.serving, .heartbeat):
      trunk.heard(try ShipHeartbeat(decoding: message.body).contactMilliseconds)
    case (.serving, .news): trunk.follower?.news(try ShipNews(decoding: message.body))
    case (.serving, .listed): trunk.follower?.listed()
    case (.serving, .changed): trunk.changed(try ShipChanged(decoding: message.body))
    default: throw ShipProtocolError.unexpected("\(message.kind)")
    }
  }

  private func receiveOnStream(_ message: ShipMessage) throws {
    guard isServing else {
      if case .closed = phase { return }
      throw ShipProtocolError.unexpected("\(message.kind) before the catalogue")
    }
    guard message.kind != .end else {
      let end = try ShipEnd(decoding: message.body)
      // What came before it goes first.
      deliver()
      return trunk.ended(message.stream, end)
    }
    // Of a stream that was given up here, more can come until the upstream has heard of that.
    guard trunk.stream(message.stream) != nil else {
      throw ShipProtocolError.unexpected("stream \(message.stream) is not open")
    }
    batches[message.stream, default: []].append(message)
  }

  private func deliver() {
    guard !batches.isEmpty else { return }
    let all = batches
    batches = [:]
    for (number, messages) in all { trunk.stream(number)?.deliver(messages) }
  }

  private func receiveChallenge(_ body: ByteBuffer, _ nonce: [UInt8]) throws {
    let challenge = try ShipChallenge(decoding: body)
    guard ShipProtocolVersion.many.contains(challenge.version) else {
      return close("the upstream chose protocol \(challenge.version), which is for one database")
    }
    let nonces = [nonce, challenge.nonce]
    if let secret = trunk.secret, !secret.isValid(challenge.proof, .server, nonces) {
      return close("the upstream does not know the ship secret")
    }
    let attach = ShipAttach(
      node: trunk.node, catalogue: identity ?? .zero, filter: trunk.filter)
    let proven = ShipProof.wrap(
      attach.encode(), secret: trunk.secret, role: .attach, nonces: nonces)
    phase = .attach(nonces: nonces)
    send(ShipMessage(.attach, body: proven))
  }

  private func receiveCatalogue(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]) throws {
    guard
      let body = ShipProof.unwrap(wrapped, secret: trunk.secret, role: .catalogue, nonces: nonces)
    else { return close("the upstream does not know the ship secret") }
    let catalogue = try ShipCatalogue(decoding: body)
    guard !catalogue.lineage.contains(trunk.node.id) else {
      return close("the upstream follows this node")
    }
    guard identity == nil || catalogue.catalogue == identity else {
      return close(
        "the upstream serves other databases than those that were copied here: --reset throws these "
          + "away")
    }
    do {
      try trunk.attached(catalogue)
    } catch {
      return close("\(error)")
    }
    phase = .serving
  }

  // MARK: Sending

  func send(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    write(bytes)
  }

  func write(_ bytes: ByteBuffer) { context?.write(wrapOutboundOut(bytes), promise: nil) }
  func flush() { context?.flush() }
}
