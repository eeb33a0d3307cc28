// One follower's connection: the handshake, then whatever `ShipSender` says comes next.

import Logging
import NIOCore
import Store
import WALShip

/// The handler of a follower's connection; all of it runs on the ship server's event loop.
final class ShipServerSession: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum Phase {
    case hello
    case join(nonces: [[UInt8]])
    case serving
    case closed
  }

  let server: ShipServer
  var context: ChannelHandlerContext?
  var phase = Phase.hello
  var received = ByteBuffer()
  var sender: ShipSender?
  var status = FollowerStatus(
    address: "", name: "", state: "connecting", txid: .zero, bytesSent: 0,
    heardNanoseconds: monotonicNanoseconds())
  var followerPages = FollowerPages(.all)
  var requests = FragmentAssembler(bytesMax: 32 << 20)
  /// Interactive transactions that this follower's clients have open.
  var transactions: Set<UInt64> = []
  /// The connections that streams of this follower have for themselves.
  var sessions: Set<UInt64> = []
  var timer: RepeatedTask?
  var isComparison = false
  /// The history that the follower was welcomed to.
  var servedEpoch = Epoch(0)
  /// Counts comparisons: what was read for an earlier one is thrown away.
  var generation = 0

  init(server: ShipServer) { self.server = server }

  var source: ShipSource { server.source }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    status.address = context.remoteAddress.map(describe) ?? "?"
    server.add(self)
    let session = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in session.value.tick() }
  }

  func channelInactive(context: ChannelHandlerContext) { close() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    server.logger.debug("a follower's connection failed", metadata: metadata(["error": "\(error)"]))
    close()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { pump() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    status.heardNanoseconds = monotonicNanoseconds()
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { try receive(message) }
    } catch {
      server.logger.warning(
        "a follower broke the protocol", metadata: metadata(["error": "\(error)"]))
      close()
    }
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

  func close() {
    if case .closed = phase { return }
    phase = .closed
    timer?.cancel()
    endWork()
    server.remove(self)
    context?.close(promise: nil)
    context = nil
  }

  func tick() {
    guard let context else { return }
    let silence = (monotonicNanoseconds() - status.heardNanoseconds) / 1_000_000_000
    if silence >= UInt64(ShipTiming.silenceSecondsMax) {
      server.logger.info("a follower fell silent", metadata: metadata())
      return close()
    }
    guard case .serving = phase else { return }
    ticks += 1
    if ticks % ShipTiming.heartbeatSecondsDown == 0 {
      sendHeartbeat()
      context.flush()
    }
    report()
    pump()
  }
  var ticks = 0

  func sendHeartbeat() {
    let position = source.tracker.position
    let beat = ShipHeartbeat(
      epoch: position.epoch, txid: position.txid,
      contactMilliseconds: source.contactMilliseconds())
    send(ShipMessage(.heartbeat, body: beat.encode()))
  }

  // MARK: Messages

  func receive(_ message: ShipMessage) throws {
    switch (phase, message.kind) {
    case (.hello, .hello): try receiveHello(message.body)
    case (.join(let nonces), .join): try receiveJoin(message.body, nonces)
    case (.serving, .acknowledge), (.serving, .heartbeat):
      let beat = try ShipHeartbeat(decoding: message.body)
      status.txid = beat.txid
      report()
    case (.serving, .pageChecksums): try receiveChecksums(ShipPageChecksums(decoding: message.body))
    case (.serving, .resynchronize):
      server.logger.warning("a follower asks to be compared", metadata: metadata())
      followerPages = FollowerPages(try ShipResynchronize(decoding: message.body).scope)
      isComparison = true
      generation += 1
      sender?.resynchronize()
      // Either side may be the one that is wrong.
      source.doubt()
    case (.serving, .request):
      let piece = try ShipFragment(decoding: message.body)
      if let whole = try requests.receive(piece) { try forward(piece.request, whole) }
    case (.closed, _): return
    default: throw ShipProtocolError.unexpected("\(message.kind)")
    }
  }

  // MARK: Status

  func report() {
    status.state = sender?.stateName ?? "connecting"
    if status.txid >= source.tracker.position.txid {
      status.behindSinceNanoseconds = nil
    } else if status.behindSinceNanoseconds == nil {
      status.behindSinceNanoseconds = monotonicNanoseconds()
    }
    server.report(self, status)
  }

  func metadata(_ more: Logger.Metadata = [:]) -> Logger.Metadata {
    more.merging(["follower": "\(status.name)", "address": "\(status.address)"]) { $1 }
  }
}

/// `host:port`, without what NIO adds for people.
public func describe(_ address: SocketAddress) -> String {
  guard let port = address.port else { return address.pathname ?? "?" }
  let host = address.ipAddress ?? "?"
  return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
}
