// One follower's connection: the handshake, then whatever `ShipSender` says comes next.

import Logging
import NIOCore
import Store
import WALShip

/// The handler of a follower's connection; all of it runs on the ship server's event loop.
final class ShipServerSession: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum Phase {
    case hello
    case join(nonces: [[UInt8]])
    case serving
    case closed
  }

  private let server: ShipServer
  private var context: ChannelHandlerContext?
  private var phase = Phase.hello
  private var received = ByteBuffer()
  private var sender: ShipSender?
  private var status = FollowerStatus(
    address: "", name: "", state: "connecting", txid: .zero, bytesSent: 0,
    heardNanoseconds: monotonicNanoseconds())
  private var followerChecksums: [UInt64] = []
  private var requests = FragmentAssembler(bytesMax: 32 << 20)
  /// Interactive transactions that this follower's clients have open.
  private var transactions: Set<UInt64> = []
  private var timer: RepeatedTask?
  private var isComparison = false

  init(server: ShipServer) { self.server = server }

  private var source: ShipSource { server.source }

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
      server.logger.warning("a follower broke the protocol", metadata: metadata(["error": "\(error)"]))
      close()
    }
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

  func close() {
    if case .closed = phase { return }
    phase = .closed
    timer?.cancel()
    for transaction in transactions {
      source.primary.submit(EngineRequest(.abandon(transaction: transaction)), on: server.loop) { _ in }
    }
    transactions = []
    server.remove(self)
    context?.close(promise: nil)
    context = nil
  }

  private func tick() {
    guard let context else { return }
    let silence = (monotonicNanoseconds() - status.heardNanoseconds) / 1_000_000_000
    if silence >= UInt64(ShipTiming.silenceSecondsMax) {
      server.logger.info("a follower fell silent", metadata: metadata())
      return close()
    }
    guard case .serving = phase else { return }
    ticks += 1
    if ticks % ShipTiming.heartbeatSeconds == 0 {
      let position = source.tracker.position
      let beat = ShipHeartbeat(
        epoch: position.epoch, txid: position.txid,
        contactMilliseconds: source.contactMilliseconds())
      send(ShipMessage(.heartbeat, body: beat.encode()))
      context.flush()
    }
    report()
    pump()
  }
  private var ticks = 0

  // MARK: Messages

  private func receive(_ message: ShipMessage) throws {
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
      followerChecksums = []
      isComparison = true
      generation += 1
      sender?.resynchronize()
    case (.serving, .request):
      let piece = try ShipFragment(decoding: message.body)
      if let whole = try requests.receive(piece) { try forward(piece.request, whole) }
    case (.closed, _): return
    default: throw ShipProtocolError.unexpected("\(message.kind)")
    }
  }

  private func receiveHello(_ body: ByteBuffer) throws {
    let hello = try ShipHello(decoding: body)
    guard
      let version = ShipProtocolVersion.choose(
        lowest: hello.lowestVersion, highest: hello.highestVersion)
    else {
      return refuse(
        .version,
        "this node speaks protocol \(ShipProtocolVersion.lowest) to \(ShipProtocolVersion.highest), the follower \(hello.lowestVersion) to \(hello.highestVersion)"
      )
    }
    let nonces = [hello.nonce, ShipSecret.nonce()]
    let proof = server.secret?.proof(.server, nonces) ?? []
    let challenge = ShipChallenge(version: version, nonce: nonces[1], proof: proof)
    phase = .join(nonces: nonces)
    send(ShipMessage(.challenge, body: challenge.encode()))
  }

  private func receiveJoin(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]) throws {
    guard
      let body = ShipProof.unwrap(wrapped, secret: server.secret, role: .follower, nonces: nonces)
    else { return refuse(.authentication, "the follower does not know the ship secret") }
    let join = try ShipJoin(decoding: body)
    let lineage = source.lineage()
    let position = source.tracker.position
    let pageSize = UInt32(source.map.identity.pageSize.bytes)
    status.name = join.node.name
    status.txid = join.position.txid
    if join.node.id == source.node.id || lineage.contains(join.node.id) {
      return refuse(.loop, "a node cannot follow itself, nor a node that follows it")
    }
    if join.want != .copy, join.position.database != position.database {
      return refuse(
        .otherDatabase,
        "the follower holds database \(join.position.database), this node serves \(position.database)")
    }
    if join.pageSize != 0, join.pageSize != pageSize {
      return refuse(.pageSize, "the follower's pages have \(join.pageSize) bytes, this node's \(pageSize)")
    }
    let plan = plan(for: join, at: position)
    isComparison = plan == .compare
    let welcome = ShipWelcome(
      node: source.node, lineage: lineage + [source.node.id], plan: plan, position: position,
      history: source.tracker.epochs, pageSize: pageSize, pageCount: source.map.live.pageCount)
    let proven = ShipProof.wrap(
      welcome.encode(), secret: server.secret, role: .welcome, nonces: nonces)
    send(ShipMessage(.welcome, body: proven))
    phase = .serving
    sender = ShipSender(
      plan: plan, followerAt: join.position.txid,
      consistentPagesMax: source.pages.consistentPagesMax)
    server.logger.info(
      "a follower joined", metadata: metadata(["position": "\(join.position)", "plan": "\(plan)"]))
    report()
    pump()
  }

  private func plan(for join: ShipJoin, at position: Position) -> ShipWelcome.Plan {
    switch join.want {
    case .copy: return .copy
    case .compare: return .compare
    case .follow:
      let theirs = join.position
      guard source.tracker.epochs.contains(epoch: theirs.epoch, txid: theirs.txid),
        theirs.txid <= position.txid
      else { return .compare }
      if theirs.txid == position.txid, theirs.checksum != position.checksum { return .compare }
      return .follow
    }
  }

  private func receiveChecksums(_ part: ShipPageChecksums) throws {
    guard part.first.index == followerChecksums.count, followerChecksums.count < 1 << 26 else {
      throw ShipProtocolError.unexpected("checksums out of order")
    }
    followerChecksums += part.checksums
    guard part.isLast else { return }
    try sender?.checksumsReceived()
    pump()
  }

  private func refuse(_ reason: ShipRefusal.Reason, _ message: String) {
    server.logger.warning("refused a follower", metadata: metadata(["reason": "\(message)"]))
    send(ShipMessage(.refuse, body: ShipRefusal(reason, message).encode()))
    context?.flush()
    close()
  }

  // MARK: Sending

  /// Does what the sender says until it says wait, or the socket is full.
  func pump() {
    guard case .serving = phase, let context else { return }
    while context.channel.isWritable, sender != nil {
      // Read the position before the ring: what the position promises is then in the ring, or gone from it for good.
      let head = source.tracker.position.txid
      guard let action = sender?.next(head: head, ringFirst: source.ring.first) else { break }
      guard perform(action, head: head) else { break }
    }
    context.flush()
  }

  /// - Returns: false when there is nothing more to do now.
  private func perform(_ action: ShipSender.Action, head: TXID) -> Bool {
    switch action {
    case .wait:
      return false
    case .sendTransaction(let txid):
      guard let message = source.ring.message(txid) else {
        sender?.transactionGone()
        return true
      }
      write(message)
      sender?.transactionSent()
      return true
    case .plan(let selection, let isFirst):
      let pages = source.pages.count(selection, follower: followerChecksums)
      if isFirst {
        let announcement = ShipCatchUp(
          pages: UInt32(clamping: pages), pageSize: UInt32(source.map.identity.pageSize.bytes),
          isComparison: isComparison)
        send(ShipMessage(.catchUp, body: announcement.encode()))
      }
      sender?.planned(pages: pages, head: head)
      return true
    case .sendPages(let selection, let after):
      let accepted = source.pages.readPages(
        selection, after: after, follower: followerChecksums, completion: finish(generation))
      if !accepted { close() }
      return false
    case .sendConsistentRound(let selection):
      let accepted = source.pages.readConsistentRound(
        selection, follower: followerChecksums, history: source.tracker.epochs,
        completion: finish(generation))
      if !accepted { close() }
      return false
    }
  }

  /// Counts comparisons: what was read for an earlier one is thrown away.
  private var generation = 0

  private func finish(
    _ generation: Int
  ) -> @Sendable (Result<PageSource.Chunk, any Error>) -> Void {
    let session = NIOLoopBound(self, eventLoop: server.loop)
    let loop = server.loop
    return { result in
      loop.execute { session.value.pagesRead(result, generation) }
    }
  }

  private func pagesRead(_ result: Result<PageSource.Chunk, any Error>, _ generation: Int) {
    guard case .serving = phase, generation == self.generation else { return }
    switch result {
    case .success(let chunk):
      write(chunk.messages)
      if let position = chunk.position {
        sender?.roundSent(at: position.txid)
        followerChecksums = []
        isComparison = false
      } else {
        sender?.pagesSent(through: chunk.cursor)
      }
      pump()
    case .failure(let error as SQLiteError) where error.primaryCode == SQLiteError.busy:
      // Commits kept coming between, or one is so large that it is still being captured.
      retry(after: .milliseconds(20))
    case .failure(let error):
      server.logger.error("pages could not be read", metadata: metadata(["error": "\(error)"]))
      retry(after: .seconds(1))
    }
  }

  private func retry(after pause: TimeAmount) {
    let session = NIOLoopBound(self, eventLoop: server.loop)
    let generation = generation
    server.loop.scheduleTask(in: pause) {
      guard generation == session.value.generation else { return }
      session.value.sender?.failed()
      session.value.pump()
    }
  }

  private func send(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    write(bytes)
  }

  private func write(_ bytes: ByteBuffer) {
    status.bytesSent += UInt64(bytes.readableBytes)
    context?.write(wrapOutboundOut(bytes), promise: nil)
  }

  // MARK: Forwarded requests

  private func forward(_ number: UInt64, _ bytes: ByteBuffer) throws {
    let request = try EngineRequest(decoding: bytes)
    if case .abandon(let transaction) = request.work { transactions.remove(transaction) }
    let session = NIOLoopBound(self, eventLoop: server.loop)
    source.primary.submit(request, on: server.loop) { response in
      session.value.answer(number, request, response)
    }
  }

  private func answer(_ number: UInt64, _ request: EngineRequest, _ response: EngineResponse) {
    noteTransaction(request, response)
    guard case .serving = phase else { return }
    // What the answer speaks of goes out first, so that the follower has it when the answer arrives.
    pump()
    for piece in ShipFragment.split(response.encode(), request: number) {
      send(ShipMessage(.response, body: piece.encode()))
    }
    context?.flush()
  }

  private func noteTransaction(_ request: EngineRequest, _ response: EngineResponse) {
    if case .proceed(let transaction, _) = request.work { transactions.remove(transaction) }
    guard let open = response.transaction else { return }
    if case .serving = phase {
      transactions.insert(open)
    } else {
      source.primary.submit(EngineRequest(.abandon(transaction: open)), on: server.loop) { _ in }
    }
  }

  // MARK: Status

  private func report() {
    status.state = sender?.stateName ?? "connecting"
    if status.txid >= source.tracker.position.txid {
      status.behindSinceNanoseconds = nil
    } else if status.behindSinceNanoseconds == nil {
      status.behindSinceNanoseconds = monotonicNanoseconds()
    }
    server.report(self, status)
  }

  private func metadata(_ more: Logger.Metadata = [:]) -> Logger.Metadata {
    more.merging(["follower": "\(status.name)", "address": "\(status.address)"]) { $1 }
  }
}

/// `host:port`, without what NIO adds for people.
public func describe(_ address: SocketAddress) -> String {
  guard let port = address.port else { return address.pathname ?? "?" }
  let host = address.ipAddress ?? "?"
  return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
}
