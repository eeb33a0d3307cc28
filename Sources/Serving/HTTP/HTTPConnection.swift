// One connection of an HTTP client: requests become whole here, wait for their turn, and are
// answered one after the other. What they ask for is in HTTPConnectionRouting, how answers are
// written in HTTPConnectionOutput.
//
// What cannot be a request (malformed, too large, too slow) is refused in its turn, and the
// connection closed behind it. These refusals are written as bytes: for some of them there is no
// request that the handlers of NIO could answer.
// Source: RFC 9112

import DequeModule
import Logging
import NIOCore
import NIOHTTP1
import Store

/// The last handler of a connection. It is used on its event loop alone.
final class HTTPConnection: ChannelDuplexHandler, RemovableChannelHandler, ClientConnection {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  let server: HTTPServer
  let loop: any EventLoop
  let connections: ClientConnections
  private(set) var context: ChannelHandlerContext?
  /// Where bytes are written that are no answers of HTTP's handlers.
  private(set) var bottom: ChannelHandlerContext?

  // MARK: Input

  private enum Item {
    case request(HTTPRequestHead, ByteBuffer, isPlain: Bool)
    case refusal(HTTPResponseStatus)
  }
  private var queue = Deque<Item>()
  private var queuedBytes = 0
  /// A request that has begun.
  private var head: HTTPRequestHead?
  /// Its answer is written here, and not by HTTP's handlers.
  private var isPlain = false
  private let compression = HTTPCompression()
  /// How the last request was routed: most clients ask for one thing again and again.
  var lastRouting: HTTPRouting?
  private var body = ByteBuffer()
  /// Bytes have arrived that are not a request yet.
  private var hasBytes = false
  /// Nothing more is read as requests.
  var isDeaf = false
  private(set) var isInputClosed = false
  private var wantsRead = false
  let patience: HTTPPatience

  // MARK: Output

  /// What is being answered.
  var answering: Answering?
  private var isWorking = false
  var isClosing = false
  private(set) var isDraining = false
  var unreadAlarm: Scheduled<Void>?

  /// A request until its answer is complete.
  struct Answering {
    var head: HTTPRequestHead
    /// Nil as long as it is not clear what is asked for.
    var call: HTTPCall?
    var closes: Bool
    /// Written as bytes: no compressor waits for this answer.
    var isPlain: Bool
    /// The answer comes in chunks.
    var isChunked = false
    let began = monotonicNanoseconds()
  }

  static let headBytesMax = 16 << 10
  static let bodyBytesMax = 16 << 20
  private static let queuedItemsMax = 64

  init(server: HTTPServer, connections: ClientConnections, loop: any EventLoop) {
    self.server = server
    self.connections = connections
    self.loop = loop
    patience = HTTPPatience(loop: loop)
  }

  /// Adds HTTP's handlers and this one.
  func addHandlers(to pipeline: ChannelPipeline.SynchronousOperations) throws {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = Self.headBytesMax
    limits.maxHeaderListSize = Self.headBytesMax
    let encoder = HTTPResponseEncoder()
    let decoder = HTTPRequestDecoder(
      leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits)
    try pipeline.addHandler(HTTPInputWatch { [weak self] in self?.hasBytes = true })
    try pipeline.addHandler(encoder)
    try pipeline.addHandler(ByteToMessageHandler(decoder))
    try pipeline.addHandler(compression)
    try pipeline.addHandler(self)
    bottom = try pipeline.context(handler: encoder)
  }

  var limits: ServingLimits { server.limits }

  // MARK: Channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { begin() }
  }

  func channelActive(context: ChannelHandlerContext) {
    begin()
    context.fireChannelActive()
  }

  private func begin() {
    if !connections.add(self) { refuse(.tooManyRequests) }
    work()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isDeaf else { return }
    switch unwrapInboundIn(data) {
    case .head(let head): receive(head)
    case .body(let bytes): receive(bytes)
    case .end: receiveEnd()
    }
  }

  private func receive(_ head: HTTPRequestHead) {
    let bytes = head.headers.reduce(head.uri.utf8.count) {
      $0 + $1.name.utf8.count + $1.value.utf8.count + 4
    }
    guard bytes <= Self.headBytesMax else { return refuse(.requestHeaderFieldsTooLarge) }
    let length = head.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
    guard length <= Self.bodyBytesMax else { return refuse(.payloadTooLarge) }
    self.head = head
    isPlain = !compression.isActive
    let expects = head.headers.first(name: "expect")?.lowercased() == "100-continue"
    if expects, answering == nil, queue.isEmpty { writeBytes("HTTP/1.1 100 Continue\r\n\r\n") }
  }

  private func receive(_ bytes: ByteBuffer) {
    guard head != nil else { return }
    guard body.readableBytes + bytes.readableBytes <= Self.bodyBytesMax else {
      return refuse(.payloadTooLarge)
    }
    body.writeImmutableBuffer(bytes)
  }

  private func receiveEnd() {
    guard let head else { return }
    hasBytes = false
    queuedBytes += body.readableBytes
    queue.append(.request(head, body, isPlain: isPlain))
    self.head = nil
    body = ByteBuffer()
  }

  /// What comes now is no request that can be served, and neither is what follows.
  private func refuse(_ status: HTTPResponseStatus) {
    guard !isDeaf else { return }
    isDeaf = true
    head = nil
    body = ByteBuffer()
    queue.append(.refusal(status))
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    work()
    context.fireChannelReadComplete()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case HTTPParserError.headerOverflow: refuse(.requestHeaderFieldsTooLarge)
    case is HTTPParserError: refuse(.badRequest)
    default:
      // A broken connection is the client's business, not the operator's.
      server.logger.debug("connection closed", metadata: ["reason": "\(error)"])
      return context.close(promise: nil)
    }
    work()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed? = event as? ChannelEvent else {
      return context.fireUserInboundEventTriggered(event)
    }
    isInputClosed = true
    if isClosing { return context.close(promise: nil) }
    work()
    leaveLater()
  }

  /// Gives up a request that nobody may be waiting for. One who is still there, and has only said
  /// that there is nothing more to come, has a moment for each answer.
  private func leaveLater() {
    guard let began = answering?.began else { return }
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .milliseconds(Int64(limits.httpHalfClosedMilliseconds))) {
      let connection = bound.value
      guard let answering = connection.answering, answering.call?.hasBegun != true else { return }
      if answering.began == began { connection.abort() } else { connection.leaveLater() }
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  private func gone() {
    guard context != nil else { return }
    context = nil
    bottom = nil
    connections.remove(self)
    unreadAlarm?.cancel()
    patience.cancel()
    queue = []
    let call = answering?.call
    answering = nil
    call?.gone()
  }

  // MARK: Turns

  /// Answers the requests that wait, as far as it can be done now.
  func work() {
    guard !isWorking, context != nil else { return }
    isWorking = true
    while answering == nil, !isClosing, isWritable, let item = queue.popFirst() {
      switch item {
      case .refusal(let status): refuseNow(status)
      case .request(let head, let body, let isPlain):
        queuedBytes -= body.readableBytes
        answering = Answering(
          head: head, closes: !head.isKeepAlive || isDraining, isPlain: isPlain)
        start(HTTPRequest(head: head, body: body))
      }
    }
    isWorking = false
    if answering == nil, queue.isEmpty, isInputClosed || isDraining { close() }
    watch()
    readIfWanted()
  }

  /// Answers what is worked on, and closes.
  func drain() {
    isDraining = true
    answering?.closes = true
    answering?.call?.drain()
    work()
  }

  func abort() { context?.close(promise: nil) }

  /// It has a database only while it answers a request.
  func releaseIfUnused(since nanoseconds: UInt64) {}

  /// Takes HTTP's handlers for answers out, for another protocol.
  func removeCompression() throws {
    if let context { try compression.leave(context) }
  }

  // MARK: Patience

  /// Waits for the rest of a request, or for another one, for a limited time.
  private func watch() {
    guard context != nil, !isClosing, answering == nil, queue.isEmpty else {
      return patience.cancel()
    }
    let isPartial = head != nil || hasBytes
    patience.wait(
      for: isPartial ? .rest : .request,
      milliseconds: isPartial ? limits.httpRequestMilliseconds : limits.httpIdleMilliseconds
    ) { [weak self] in self?.isLate(isPartial) }
  }

  private func isLate(_ isPartial: Bool) {
    guard isPartial else { return close() }
    refuse(.requestTimeout)
    work()
  }

  // MARK: Reading

  func read(context: ChannelHandlerContext) {
    guard mayRead else {
      wantsRead = true
      return
    }
    context.read()
  }

  /// Not while more waits than one connection may keep here.
  private var mayRead: Bool {
    if isClosing || isDeaf || (queue.isEmpty && answering == nil) { return true }
    return queuedBytes < limits.queuedBytesMax && queue.count < Self.queuedItemsMax
  }

  func readIfWanted() {
    guard wantsRead, mayRead else { return }
    wantsRead = false
    context?.read()
  }
}
