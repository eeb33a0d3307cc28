// One follower: the handshake, then whatever `ShipSender` says comes next. What it sends leaves by a
// `ShipOutlet`: a connection of its own, or a stream of one that carries many databases.

import Logging
import NIOCore
import Store
import WALShip

/// The way to the other node. It is used on one event loop.
public protocol ShipOutlet: AnyObject {
  /// Whether more may be written now, of what can wait.
  var isWritable: Bool { get }
  var address: String { get }
  /// Whole messages.
  func write(_ messages: ByteBuffer)
  func flush()
  /// Nothing more is sent or received.
  func close(_ end: ShipEnd)
}

/// What serves a follower; all of it runs on the ship server's event loop.
final class ShipServerSession {
  enum Phase {
    case hello
    /// Without nonces the follower has proven itself already.
    case join(nonces: [[UInt8]]?)
    case serving
    case closed
  }

  let server: ShipServer
  var outlet: (any ShipOutlet)?
  var phase = Phase.hello
  /// On a stream, the link as a whole is watched.
  var isStream = false
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
  /// Requests that are not answered yet.
  var pending = 0
  var timer: RepeatedTask?
  var isComparison = false
  /// The history that the follower was welcomed to.
  var servedEpoch = Epoch(0)
  /// Counts comparisons: what was read for an earlier one is thrown away.
  var generation = 0

  init(server: ShipServer) { self.server = server }

  var source: ShipSource { server.source }

  // MARK: Life

  /// The follower is there.
  func begin(_ outlet: any ShipOutlet) {
    self.outlet = outlet
    status.address = outlet.address
    server.add(self)
    let session = NIOLoopBound(self, eventLoop: server.loop)
    timer = server.loop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in session.value.tick() }
  }

  /// A follower that has proven itself, on a stream of its own.
  func begin(_ outlet: any ShipOutlet, join: ShipJoin) {
    isStream = true
    phase = .join(nonces: nil)
    begin(outlet)
    accept(join, nonces: nil)
  }

  /// Takes a message; after an error the session is over.
  func take(_ message: ShipMessage) {
    status.heardNanoseconds = monotonicNanoseconds()
    do {
      try receive(message)
    } catch {
      broke(error)
    }
  }

  func broke(_ error: any Error) {
    server.logger.warning(
      "a follower broke the protocol", metadata: metadata(["error": "\(error)"]))
    close()
  }

  func failed(_ error: any Error) {
    server.logger.debug("a follower's connection failed", metadata: metadata(["error": "\(error)"]))
    close()
  }

  func close(_ end: ShipEnd = ShipEnd(.closed)) {
    if case .closed = phase { return }
    phase = .closed
    timer?.cancel()
    endWork()
    server.remove(self)
    outlet?.close(end)
    outlet = nil
  }

  /// The database closes: whoever has everything and waits for nothing can come back without loss.
  func park() {
    guard case .serving = phase, isAtRest else {
      return close(ShipEnd(.closed, "the database is being closed"))
    }
    close(ShipEnd(.parked))
  }

  /// Whether the follower has everything, and nothing of its clients is under way.
  var isAtRest: Bool {
    guard case .serving = phase, let sender else { return false }
    return sender.isStreaming && status.txid >= source.tracker.position.txid && pending == 0
      && transactions.isEmpty && sessions.isEmpty
  }

  func tick() {
    guard outlet != nil else { return }
    let silence = (monotonicNanoseconds() - status.heardNanoseconds) / 1_000_000_000
    if !isStream, silence >= UInt64(ShipTiming.silenceSecondsMax) {
      server.logger.info("a follower fell silent", metadata: metadata())
      return close()
    }
    guard case .serving = phase else { return }
    ticks += 1
    if !isStream, ticks % ShipTiming.heartbeatSecondsDown == 0 {
      sendHeartbeat()
      outlet?.flush()
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

  /// Tells the server, which must not hear any more of one who is gone: nothing would be at rest.
  func report() {
    if case .closed = phase { return }
    status.state = sender?.stateName ?? "connecting"
    if status.txid >= source.tracker.position.txid {
      status.behindSinceNanoseconds = nil
    } else if status.behindSinceNanoseconds == nil {
      status.behindSinceNanoseconds = monotonicNanoseconds()
    }
    status.isAtRest = isAtRest
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
