// One conversation with the node above: the handshake, then whatever it sends, taken to the content
// of this replica. It has a connection of its own, or a stream of one that carries many databases.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// What follows the upstream; all of it runs on the applier's event loop.
final class UpstreamSession {
  enum Phase {
    case hello(nonce: [UInt8])
    /// Without nonces the upstream has proven itself already.
    case join(nonces: [[UInt8]]?)
    case serving(ShipReceiver)
    case closed
  }

  let upstream: Upstream
  var outlet: (any ShipOutlet)?
  var phase: Phase
  /// On a stream, the link as a whole is watched.
  let isStream: Bool
  var responses = FragmentAssembler(bytesMax: 64 << 20)
  var heardNanoseconds = monotonicNanoseconds()
  var epoch = Epoch(0)
  var timer: RepeatedTask?
  var ticks = 0
  var hasUnacknowledged = false
  var reason: String?
  var comparisons = 0
  static let comparisonsMax = 3

  init(upstream: Upstream, isStream: Bool = false) {
    self.upstream = upstream
    self.isStream = isStream
    phase = isStream ? .join(nonces: nil) : .hello(nonce: ShipSecret.nonce())
  }

  var isServing: Bool { if case .serving = phase { true } else { false } }
  var content: ReplicaContent { upstream.content }

  // MARK: Life

  /// The upstream can be spoken to.
  func begin(_ outlet: any ShipOutlet) {
    self.outlet = outlet
    switch phase {
    case .hello(let nonce):
      send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
    case .join:
      let join = content.join(upstream.node, wantsComparison: upstream.wantsComparison)
      send(ShipMessage(.open, body: ShipOpen(name: upstream.name, join: join).encode()))
    case .serving, .closed: break
    }
    outlet.flush()
    let session = NIOLoopBound(self, eventLoop: upstream.loop)
    timer = upstream.loop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in session.value.tick() }
  }

  /// The connection is over.
  func lost() {
    if case .hello = phase {
      close(reason: "the upstream closed the link at once: does it want TLS (--tls-ca)?")
    } else {
      close(reason: "the upstream closed the link")
    }
  }

  /// Takes a message; after an error the session is over.
  func take(_ message: ShipMessage) {
    heardNanoseconds = monotonicNanoseconds()
    do {
      try receive(message)
    } catch {
      fail(error)
    }
  }

  /// One publish and one acknowledgement for all that was read in one go.
  func readComplete() {
    guard isServing else {
      outlet?.flush()
      return
    }
    do {
      try publish()
    } catch {
      fail(error)
    }
    if hasUnacknowledged { acknowledge(.acknowledge) }
    upstream.update { [heardNanoseconds] in $0.heardNanoseconds = heardNanoseconds }
    outlet?.flush()
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
    outlet?.close(ShipEnd(.closed))
    outlet = nil
    upstream.ended(reason: self.reason ?? reason)
  }

  /// The upstream has ended the stream.
  func ended(_ end: ShipEnd) {
    switch (end.reason, phase) {
    case (.parked, .serving):
      phase = .closed
      timer?.cancel()
      outlet?.close(end)
      outlet = nil
      upstream.parked()
    default: close(reason: end.message.isEmpty ? "the upstream closed the link" : end.message)
    }
  }

  func tick() {
    let silence = (monotonicNanoseconds() - heardNanoseconds) / 1_000_000_000
    let limit =
      isServing ? ShipTiming.silenceSecondsMax : ShipTiming.handshakeSecondsMax
    if !isStream || !isServing, silence >= UInt64(limit) {
      return close(reason: "the upstream fell silent for \(silence) s")
    }
    ticks += 1
    if isServing, !isStream, ticks % ShipTiming.heartbeatSecondsUp == 0 {
      acknowledge(.heartbeat)
      outlet?.flush()
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
    outlet?.flush()
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
    outlet?.write(bytes)
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
    upstream.checkRest()
  }

  func reportProgress() {
    upstream.update { $0.progress = content.progress }
  }
}

extension UpstreamSession: ShipLinkSession {
  func becameWritable() {}
  func broke(_ error: any Error) { fail(error) }
  func failed(_ error: any Error) { close(reason: brief(error)) }
}
