// One follower's link with many databases: the handshake, news of what is not followed, and the
// streams of what is.

import DequeModule
import Logging
import NIOCore
import Store
import WALShip

/// The handler of a follower's link; all of it runs on the trunk server's event loop.
final class TrunkSession: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum Phase {
    case hello
    case attach(nonces: [[UInt8]])
    case serving
    case closed
  }

  let server: TrunkServer
  private var context: ChannelHandlerContext?
  private var phase = Phase.hello
  private var received = ByteBuffer()
  private var filter = DatabaseFilter.all
  private var name = ""
  /// The nodes above this one that the follower was told of; nil before that.
  private(set) var lineage: [DatabaseID]?
  private var timer: RepeatedTask?
  private var heardNanoseconds = monotonicNanoseconds()
  private var streams: [UInt16: TrunkStream] = [:]
  /// Databases that are followed on a stream now: there is no news of them.
  private var followed: Set<DatabaseName> = []
  /// Databases that the follower is to be told of, each once.
  private var news: Deque<DatabaseName> = []
  private var isNews: Set<DatabaseName> = []
  /// The follower knows of everything.
  private var isListed = false
  /// Streams that had to stop in the middle, in the order of their turns.
  private var waiting: Deque<TrunkStream> = []
  private var isRunPlanned = false
  /// Changes of this follower's clients that are being made.
  var changes = 0

  init(server: TrunkServer) { self.server = server }

  private var catalogue: DatabaseCatalogue { server.source.databases.catalogue }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    server.add(self)
    let session = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleRepeatedTask(
      initialDelay: .seconds(1), delay: .seconds(1)
    ) { _ in session.value.tick() }
  }

  func channelInactive(context: ChannelHandlerContext) { close() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    server.logger.debug("a follower's link failed", metadata: metadata(["error": "\(error)"]))
    close()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { run() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    heardNanoseconds = monotonicNanoseconds()
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
    for stream in streams.values { stream.linkLost() }
    streams = [:]
    waiting = []
    server.remove(self)
    context?.close(promise: nil)
    context = nil
  }

  private func tick() {
    let silence = (monotonicNanoseconds() - heardNanoseconds) / 1_000_000_000
    if silence >= UInt64(ShipTiming.silenceSecondsMax) {
      server.logger.info("a follower fell silent", metadata: metadata())
      return close()
    }
    guard case .serving = phase else { return }
    sendHeartbeat()
    run()
    flush()
  }

  private func sendHeartbeat() {
    let beat = ShipHeartbeat(
      epoch: Epoch(0), txid: .zero, contactMilliseconds: server.source.contactMilliseconds())
    send(ShipMessage(.heartbeat, body: beat.encode()))
  }

  // MARK: Messages

  private func receive(_ message: ShipMessage) throws {
    switch (phase, message.kind) {
    case (.closed, _): return
    case (.hello, .hello): try receiveHello(message.body)
    case (.attach(let nonces), .attach): try receiveAttach(message.body, nonces)
    case (.serving, .heartbeat) where message.stream == ShipTrunk.linkStream: return
    case (.serving, .change) where message.stream == ShipTrunk.linkStream:
      try change(ShipChange(decoding: message.body))
    case (.serving, .open): try open(message.stream, ShipOpen(decoding: message.body))
    case (.serving, _):
      guard let stream = streams[message.stream] else {
        throw ShipProtocolError.unexpected("stream \(message.stream) is not open")
      }
      try stream.receive(message)
    default: throw ShipProtocolError.unexpected("\(message.kind)")
    }
  }

  private func receiveHello(_ body: ByteBuffer) throws {
    let hello = try ShipHello(decoding: body)
    guard
      let version = ShipProtocolVersion.choose(
        lowest: hello.lowestVersion, highest: hello.highestVersion, of: ShipProtocolVersion.many)
    else {
      return refuse(
        .version, "this node serves many databases: follow it with --data, not with --db")
    }
    let nonces = [hello.nonce, ShipSecret.nonce()]
    let proof = server.secret?.proof(.server, nonces) ?? []
    phase = .attach(nonces: nonces)
    let challenge = ShipChallenge(version: version, nonce: nonces[1], proof: proof)
    send(ShipMessage(.challenge, body: challenge.encode()))
  }

  private func receiveAttach(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]) throws {
    guard
      let body = ShipProof.unwrap(wrapped, secret: server.secret, role: .attach, nonces: nonces)
    else { return refuse(.authentication, "the follower does not know the ship secret") }
    let attach = try ShipAttach(decoding: body)
    // In this order: a replica knows who is above it before it knows what it follows.
    let identity = server.source.identity()
    let (node, lineage) = (server.source.node, server.source.lineage())
    name = attach.node.name
    filter = attach.filter
    if attach.node.id == node.id || lineage.contains(attach.node.id) {
      return refuse(.loop, "a node cannot follow itself, nor a node that follows it")
    }
    guard let identity else {
      return refuse(.notReady, "this replica does not know yet what it follows")
    }
    guard attach.catalogue == .zero || attach.catalogue == identity else {
      return refuse(
        .otherDatabase,
        "the follower holds the databases of folder \(attach.catalogue), this is \(identity)")
    }
    self.lineage = lineage
    let reply = ShipCatalogue(node: node, lineage: lineage + [node.id], catalogue: identity)
    let proven = ShipProof.wrap(
      reply.encode(), secret: server.secret, role: .catalogue, nonces: nonces)
    send(ShipMessage(.catalogue, body: proven))
    sendHeartbeat()
    phase = .serving
    server.logger.info("a follower attached", metadata: metadata(["filter": "\(filter)"]))
    server.load { [weak self] in
      guard let self else { return }
      for name in catalogue.names { note(name) }
      isLoaded = true
      run()
    }
  }
  private var isLoaded = false

  private func refuse(_ reason: ShipRefusal.Reason, _ message: String) {
    server.logger.warning("refused a follower", metadata: metadata(["reason": "\(message)"]))
    send(ShipMessage(.refuse, body: ShipRefusal(reason, message).encode()))
    flush()
    close()
  }

  // MARK: News

  /// These may stand elsewhere now, or be gone.
  func changed(_ names: Set<DatabaseName>) {
    guard case .serving = phase, isLoaded else { return }
    for name in names { note(name) }
    run()
  }

  private func note(_ name: DatabaseName) {
    guard filter.matches(name.text), !followed.contains(name), isNews.insert(name).inserted
    else { return }
    news.append(name)
  }

  private func sendNews() {
    while isWritable, let name = news.popFirst() {
      isNews.remove(name)
      // The end of its stream will make it news again.
      guard !followed.contains(name) else { continue }
      send(
        ShipMessage(
          .news, body: ShipNews(name: name.text, fact: catalogue.fact(name)).encode()))
    }
    guard news.isEmpty, isLoaded, !isListed, catalogue.isComplete else { return }
    isListed = true
    send(ShipMessage(.listed, body: ByteBuffer()))
  }

  // MARK: Streams

  private func open(_ number: UInt16, _ open: ShipOpen) throws {
    guard number != ShipTrunk.linkStream, streams[number] == nil,
      streams.count < ShipTrunk.streamsMax
    else { throw ShipProtocolError.unexpected("a stream \(number)") }
    let stream = TrunkStream(link: self, number: number, name: open.name)
    streams[number] = stream
    guard let name = DatabaseName(open.name), filter.matches(open.name) else {
      return stream.refuse(.otherDatabase, "there is no database of that name here")
    }
    followed.insert(name)
    stream.open(name, open.join)
  }

  /// This side has ended a stream; its number is free once the other side has as well.
  func streamClosed(_ stream: TrunkStream, _ end: ShipEnd) {
    send(ShipMessage(.end, stream: stream.number, body: end.encode()))
    if let name = DatabaseName(stream.name), !isFollowedElsewhere(name, than: stream) {
      followed.remove(name)
      note(name)
      sendNews()
    }
    flush()
  }

  private func isFollowedElsewhere(_ name: DatabaseName, than stream: TrunkStream) -> Bool {
    streams.values.contains { $0 !== stream && $0.name == name.text && !$0.isClosed }
  }

  func streamFreed(_ stream: TrunkStream) { streams[stream.number] = nil }

  /// A stream has more to send than its turn allows, or than fits now.
  func wait(_ stream: TrunkStream) {
    waiting.append(stream)
    guard isWritable, !isRunPlanned else { return }
    isRunPlanned = true
    let bound = NIOLoopBound(self, eventLoop: server.loop)
    server.loop.execute {
      bound.value.isRunPlanned = false
      bound.value.run()
    }
  }

  /// Gives each stream that waits a turn, as long as there is room.
  func run() {
    guard case .serving = phase else { return }
    sendNews()
    for _ in 0..<waiting.count where isWritable { waiting.popFirst()?.takeTurn() }
    flush()
  }

  // MARK: Sending

  var isWritable: Bool { context?.channel.isWritable ?? false }
  var address: String { context?.remoteAddress.map(describe) ?? "?" }

  func send(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    write(bytes)
  }

  func write(_ bytes: ByteBuffer) { context?.write(wrapOutboundOut(bytes), promise: nil) }
  func flush() { context?.flush() }

  private func metadata(_ more: Logger.Metadata = [:]) -> Logger.Metadata {
    more.merging(["follower": "\(name)", "address": "\(address)"]) { $1 }
  }
}
