// One client of the line protocol: its input, its output, and whose turn it is. What requests do is
// in the extensions: LineSessionRequests (what a line asks for), …Reads, …Writes, …Transactions,
// …Answers, and LineCommands.
//
// Requests run one after the other. Cheap reads run in place; everything else leaves the session
// busy until it is answered. The one exception are writes outside of transactions: they go to the
// primary without waiting for each other.
// Source: docs/PROTOCOL.md, the line protocol

import DequeModule
import Logging
import NIOCore
import Store
import WALShip

/// The channel handler of one connection. It is used on its event loop alone.
final class LineSession: ChannelDuplexHandler, ClientConnection {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  let directory: any DatabaseDirectory
  let limits: ServingLimits
  private let logger: Logger
  let loop: any EventLoop
  private let connections: ClientConnections
  var context: ChannelHandlerContext?

  // MARK: Input

  var input: LineInput
  /// The next request, which waits until all writes before it are answered.
  private var waiting: LineInput.Item?
  var isInputClosed = false
  var wantsRead = false
  private let deadline: LineDeadline
  var credentialAlarm: Scheduled<Void>?

  // MARK: Work

  /// A request is being worked on somewhere else.
  private(set) var isBusy = false
  /// Ends that work when the client is gone.
  private var onGone: (() -> Void)?
  /// What goes on when the client has read what it was sent.
  var onRoom: (() -> Void)?
  private var isWorking = false
  private var isTurnScheduled = false
  var isDraining = false
  var isClosing = false

  // MARK: Output

  var writer = ResponseWriter()
  /// The last line in `writer` is not whole yet.
  var isLineOpen = false
  private var unreadAlarm: Scheduled<Void>?

  // MARK: The database

  /// Keeps the present database open; nil while the session works with none.
  var lease: DatabaseLease?
  /// What the client called the database of `lease`.
  var leaseName: String?
  /// The database of requests that name none.
  var chosen: String
  /// What the client has seen of other databases.
  var seenElsewhere: [String: Token] = [:]
  /// When the last request began, by the monotonic clock.
  var usedNanoseconds: UInt64 = 0

  // MARK: The client's settings

  /// The reader of the loop, once it could be opened.
  var reader: LoopReader?
  var access: SessionAccess
  /// What the client may do, as of the present line.
  var level = AccessLevel.none
  /// The newest state that the client has seen or made.
  var seen: Token?
  var mode = LineMode.json
  var timeoutMilliseconds: Int?
  var enforcesForeignKeys = true
  var transaction = SessionTransaction.none
  var writes = Deque<PendingWrite>()
  var writesBytes = 0
  var firstWrite: UInt64 = 0

  init(
    directory: any DatabaseDirectory, limits: ServingLimits, logger: Logger,
    loop: any EventLoop, connections: ClientConnections,
    verifier: (any CredentialVerifier)? = nil
  ) {
    access = SessionAccess(verifier: verifier)
    self.directory = directory
    self.limits = limits
    self.logger = logger
    chosen = directory.defaultName
    self.loop = loop
    self.connections = connections
    input = LineInput(lineBytesMax: limits.lineBytesMax)
    deadline = LineDeadline(loop: loop, milliseconds: limits.lineMilliseconds)
  }

  /// The node as the present database sees it.
  var node: NodeContext {
    guard let lease else { preconditionFailure("the request needs no database") }
    return lease.node
  }

  /// False as soon as nothing more can be answered.
  var isOpen: Bool { context != nil }

  // MARK: Channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    guard context.channel.isActive else { return }
    begin()
  }

  func channelActive(context: ChannelHandlerContext) {
    begin()
    context.fireChannelActive()
  }

  private func begin() {
    let isWelcome = connections.add(self)
    guard !isWelcome else { return awaitCredential() }
    writer.beginLine()
    writer.error(RequestError(.overloaded, "this node has as many connections as it may have"))
    writer.endLine()
    close()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isClosing else { return }
    input.append(unwrapInboundIn(data))
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    work()
    context.fireChannelReadComplete()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed? = event as? ChannelEvent else {
      context.fireUserInboundEventTriggered(event)
      return
    }
    isInputClosed = true
    input.end()
    if isClosing { context.close(promise: nil) } else { work() }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      unreadAlarm?.cancel()
      unreadAlarm = nil
      if let onRoom {
        self.onRoom = nil
        onRoom()
      }
      work()
    } else if unreadAlarm == nil {
      let channel = context.channel
      unreadAlarm = loop.scheduleTask(
        in: .milliseconds(Int64(limits.unreadMilliseconds))
      ) { channel.close(promise: nil) }
    }
    context.fireChannelWritabilityChanged()
  }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A broken connection is the client's business, not the operator's.
    logger.debug("connection closed", metadata: ["reason": "\(error)"])
    context.close(promise: nil)
  }

  func read(context: ChannelHandlerContext) {
    guard mayRead else {
      wantsRead = true
      return
    }
    context.read()
  }

  /// Not while more waits than one connection may keep here.
  private var mayRead: Bool {
    if isClosing || input.waitingBytes < limits.queuedBytesMax { return true }
    let isBlocked = isBusy || waiting != nil || isTurnScheduled || !hasRoom
    return !isBlocked
  }

  var hasRoom: Bool { context?.channel.isWritable ?? false }

  private func gone() {
    guard context != nil else { return }
    context = nil
    connections.remove(self)
    unreadAlarm?.cancel()
    deadline.cancel()
    credentialAlarm?.cancel()
    input.removeAll()
    waiting = nil
    onRoom = nil
    let end = onGone
    onGone = nil
    end?()
    abandonTransaction()
  }

  // MARK: Turns

  /// Works on what has arrived, as far as it can be done now.
  func work() {
    guard !isWorking, !isClosing, isOpen else { return }
    isWorking = true
    let turnEnd = monotonicNanoseconds() + limits.turnMicrosecondsMax * 1000
    while !isBusy, !isClosing, let item = waiting ?? input.next() {
      waiting = nil
      let now = monotonicNanoseconds()
      guard now < turnEnd else {
        waiting = item
        yield()
        break
      }
      if writer.count >= limits.chunkBytesMax { flush() }
      guard hasRoom, start(item, at: now) else {
        waiting = item
        break
      }
    }
    endBatch()
    isWorking = false
    flush()
    afterWork()
  }

  /// Starts a request.
  ///
  /// - Returns: false when it must wait for the writes before it.
  private func start(_ item: LineInput.Item, at now: UInt64) -> Bool {
    usedNanoseconds = now
    switch item {
    case .request(let request):
      if isDraining, case .none = transaction {
        guard writes.isEmpty else { return false }
        let stopping = RequestError(.overloaded, ThreadStopped().description)
        answer(AnswerHead(id: request.id, started: now), error: stopping)
        return true
      }
      return start(request, at: now)
    case .failed(let failure):
      guard writes.isEmpty else { return false }
      answer(AnswerHead(id: failure.id, started: now), error: failure.error)
    case .wrongProtocol(let foreign):
      guard writes.isEmpty else { return false }
      mode = .json
      answer(
        AnswerHead(id: nil, started: now), error: RequestError(.wrongProtocol, foreign.message))
      close()
    }
    return true
  }

  /// Nothing is under way, or open, or waits.
  var isAtRest: Bool {
    guard case .none = transaction else { return false }
    return !isBusy && !isWorking && !isLineOpen && onRoom == nil && writes.isEmpty && waiting == nil
  }

  /// Lets other connections have the loop, and goes on after them.
  private func yield() {
    guard !isTurnScheduled else { return }
    isTurnScheduled = true
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.execute {
      bound.value.isTurnScheduled = false
      bound.value.work()
    }
  }

  func afterWork() {
    guard isOpen, !isClosing else { return }
    let isIdle = !isBusy && writes.isEmpty && waiting == nil
    if isIdle, isInputClosed, input.isAtEnd { return close() }
    if isIdle, isDraining, case .none = transaction { return close() }
    deadline.note(line: isIdle && input.hasMore ? input.lineCount : nil) { [weak self] in
      self?.lineIsLate()
    }
    guard wantsRead, mayRead else { return }
    wantsRead = false
    context?.read()
  }

  private func lineIsLate() {
    let late = RequestError(.badRequest, "the line did not end in time")
    answer(AnswerHead(id: nil, started: monotonicNanoseconds()), error: late)
    close()
  }

  /// The session waits for something that happens elsewhere.
  ///
  /// - Parameter onGone: ends that when the client is gone before.
  func suspend(onGone: @escaping () -> Void = {}) {
    isBusy = true
    self.onGone = onGone
  }

  /// What the session waited for has happened: does the next step, then what else is to be done.
  func resume(_ step: () -> Void) {
    guard isOpen else { return }
    isBusy = false
    onGone = nil
    step()
    if !isWorking { endBatch() }
    work()
  }
}
