// One connection of an HTTP client: requests become whole here, wait for their turn, and are
// answered one after the other.
//
// What cannot be a request (malformed, too large, too slow) is refused in its turn, and the
// connection closed behind it. These refusals are written as bytes: for some of them there is no
// request that the handlers of NIO could answer.
// Source: RFC 9112

import DequeModule
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import Store

/// The channel handler of one connection. It is used on its event loop alone.
final class HTTPConnection: ChannelDuplexHandler, RemovableChannelHandler, HTTPPeer {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  let server: HTTPServer
  let loop: any EventLoop
  let connections: HTTPConnections
  private(set) var context: ChannelHandlerContext?
  /// Where bytes are written that are no answers of HTTP's handlers.
  private var bottom: ChannelHandlerContext?

  // MARK: Input

  enum Item {
    case request(HTTPRequestHead, ByteBuffer)
    case refusal(HTTPResponseStatus)
  }
  private var queue = Deque<Item>()
  private var queuedBytes = 0
  private var head: HTTPRequestHead?
  private var body = ByteBuffer()
  /// Nothing more is read as requests.
  private var isDeaf = false
  private var isInputClosed = false
  private var wantsRead = false
  private var hasBytes = false
  private let patience: HTTPPatience

  // MARK: Output

  var current: HTTPCall?
  /// The request that is being answered, and whether the connection goes on after it.
  private var currentHead: HTTPRequestHead?
  private var closesAfterAnswer = false
  private var isChunkless = false
  private var isWorking = false
  var isClosing = false
  private var isDraining = false
  private var unreadAlarm: Scheduled<Void>?
  /// What goes on when the client has read what it was sent.
  var onRoom: (() -> Void)?

  private static let headBytesMax = 16 << 10
  private static let bodyBytesMax = 16 << 20
  private static let queuedItemsMax = 64
  private static let lingerMilliseconds: Int64 = 1000
  /// Shorter answers are not worth compressing.
  private static let compressedBytesMin = 1024

  init(server: HTTPServer, connections: HTTPConnections, loop: any EventLoop) {
    self.server = server
    self.connections = connections
    self.loop = loop
    patience = HTTPPatience(loop: loop)
  }

  var limits: ServingLimits { server.options.limits }

  /// Adds HTTP's handlers and this one.
  func addHandlers(to pipeline: ChannelPipeline.SynchronousOperations) throws {
    var configuration = NIOHTTPDecoderLimitConfiguration()
    configuration.maxHeaderFieldSize = Self.headBytesMax
    configuration.maxHeaderListSize = Self.headBytesMax
    let encoder = HTTPResponseEncoder()
    let decoder = HTTPRequestDecoder(
      leftOverBytesStrategy: .forwardBytes, limitConfiguration: configuration)
    try pipeline.addHandlers([
      HTTPInputWatch { [weak self] in self?.hasBytes = true }, encoder,
      ByteToMessageHandler(decoder),
      HTTPResponseCompressor { head, _ in
        let length = head.headers.first(name: "content-length").flatMap { Int($0) }
        let isShort = length.map { $0 < Self.compressedBytesMin } ?? false
        return isShort || head.version < .http1_1 ? .doNotCompress : .compressIfPossible
      }, self,
    ])
    bottom = try pipeline.context(handler: encoder)
  }

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
    guard connections.add(self) <= limits.connectionsMax else {
      refuse(.tooManyRequests)
      return work()
    }
    watch()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isDeaf else { return }
    switch unwrapInboundIn(data) {
    case .head(let head): begin(head)
    case .body(let part):
      guard head != nil else { return }
      guard body.readableBytes + part.readableBytes <= Self.bodyBytesMax else {
        return refuse(.payloadTooLarge)
      }
      if body.readableBytes == 0 {
        body = part
      } else {
        var part = part
        body.writeBuffer(&part)
      }
    case .end:
      guard let head else { return }
      hasBytes = false
      queuedBytes += body.readableBytes
      queue.append(.request(head, body))
      self.head = nil
      body = ByteBuffer()
    }
  }

  private func begin(_ head: HTTPRequestHead) {
    let bytes = head.headers.reduce(head.uri.utf8.count) {
      $0 + $1.name.utf8.count + $1.value.utf8.count + 4
    }
    guard bytes <= Self.headBytesMax else { return refuse(.requestHeaderFieldsTooLarge) }
    if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }),
      length > Self.bodyBytesMax
    {
      return refuse(.payloadTooLarge)
    }
    self.head = head
    let expects = head.headers.first(name: "expect")?.lowercased() == "100-continue"
    if expects, current == nil, queue.isEmpty {
      writeBytes("HTTP/1.1 100 Continue\r\n\r\n")
    }
  }

  /// What comes next is no request, and neither is what follows.
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
      server.options.logger.debug("connection closed", metadata: ["reason": "\(error)"])
      context.close(promise: nil)
      return
    }
    work()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed? = event as? ChannelEvent else {
      context.fireUserInboundEventTriggered(event)
      return
    }
    isInputClosed = true
    if isClosing { context.close(promise: nil) } else { work() }
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
    onRoom = nil
    let call = current
    current = nil
    call?.gone()
  }

  // MARK: Turns

  /// Answers the requests that wait, as far as it can be done now.
  func work() {
    guard !isWorking, context != nil else { return }
    isWorking = true
    while current == nil, !isClosing, hasRoom, let item = queue.popFirst() {
      switch item {
      case .refusal(let status): refuseNow(status)
      case .request(let head, let body):
        queuedBytes -= body.readableBytes
        start(head, body)
      }
    }
    isWorking = false
    if current == nil, queue.isEmpty, !isClosing, isInputClosed || isDraining { close() }
    watch()
    readIfWanted()
  }

  private func start(_ head: HTTPRequestHead, _ body: ByteBuffer) {
    currentHead = head
    closesAfterAnswer = !head.isKeepAlive || isDraining
    isChunkless = false
    let (path, query) = HTTPPath.split(head.uri)
    let (database, rest) = HTTPPath.database(path)
    let call = HTTPCall(
      head: head, path: rest, query: query, body: body, server: server, connection: self)
    current = call
    server.router.serve(call, database: database)
  }

  // MARK: Patience

  /// Waits for the rest of a request, or for another one, for a limited time.
  private func watch() {
    guard context != nil, !isClosing, current == nil, queue.isEmpty else {
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
    if isClosing || isDeaf || (queue.isEmpty && current == nil) { return true }
    return queuedBytes < limits.queuedBytesMax && queue.count < Self.queuedItemsMax
  }

  private func readIfWanted() {
    guard wantsRead, mayRead else { return }
    wantsRead = false
    context?.read()
  }
}

// MARK: Output

extension HTTPConnection {
  var hasRoom: Bool { context?.channel.isWritable ?? false }

  func write(head status: HTTPResponseStatus, _ headers: HTTPHeaders, isStreamed: Bool) {
    guard let context, let currentHead else { return }
    var headers = headers
    headers.add(name: "Access-Control-Allow-Origin", value: "*")
    headers.add(name: "Access-Control-Expose-Headers", value: "*")
    let isOld = currentHead.version < .http1_1
    if isStreamed, isOld {
      closesAfterAnswer = true
    } else if isStreamed {
      headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked")
    }
    if closesAfterAnswer {
      headers.replaceOrAdd(name: "Connection", value: "close")
    } else if isOld {
      headers.replaceOrAdd(name: "Connection", value: "keep-alive")
    }
    isChunkless = currentHead.method == .HEAD
    let head = HTTPResponseHead(version: currentHead.version, status: status, headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
  }

  func write(body: ByteBuffer) {
    guard let context, !isChunkless, body.readableBytes > 0 else { return }
    context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
  }

  func flushAnswer() { context?.flush() }

  func endAnswer() {
    guard let context else { return }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    current = nil
    currentHead = nil
    onRoom = nil
    if closesAfterAnswer { return close() }
    work()
  }

  private func refuseNow(_ status: HTTPResponseStatus) {
    writeBytes(
      "HTTP/1.1 \(status.code) \(status.reasonPhrase)\r\nConnection: close\r\n"
        + "Access-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n")
    close()
  }

  private func writeBytes(_ text: String) {
    bottom?.writeAndFlush(NIOAny(IOData.byteBuffer(ByteBuffer(string: text))), promise: nil)
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
      unreadAlarm = loop.scheduleTask(in: .milliseconds(Int64(limits.unreadMilliseconds))) {
        channel.close(promise: nil)
      }
    }
    context.fireChannelWritabilityChanged()
  }

  /// Closes behind what was written. What the client still sends is read for a moment, so that the
  /// system does not throw away the answer together with the connection.
  func close() {
    guard let context, !isClosing else { return }
    isClosing = true
    isDeaf = true
    patience.cancel()
    guard !isInputClosed else { return context.close(promise: nil) }
    context.close(mode: .output, promise: nil)
    let channel = context.channel
    loop.scheduleTask(in: .milliseconds(Self.lingerMilliseconds)) { channel.close(promise: nil) }
    if wantsRead {
      wantsRead = false
      context.read()
    }
  }

  func drain() {
    isDraining = true
    closesAfterAnswer = true
    if current == nil { work() }
  }

  func abort() { context?.close(promise: nil) }

  /// Puts other handlers in the place of HTTP's, and answers 101.
  func upgrade(headers: HTTPHeaders, to handlers: [any ChannelHandler]) {
    let bound = NIOLoopBound((self, handlers), eventLoop: loop)
    // Not from within the decoder, which is about to be removed.
    loop.execute {
      let (connection, handlers) = bound.value
      connection.upgradeNow(headers: headers, to: handlers)
    }
  }

  private func upgradeNow(headers: HTTPHeaders, to handlers: [any ChannelHandler]) {
    guard let context else { return }
    var text = "HTTP/1.1 101 Switching Protocols\r\n"
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    writeBytes(text + "\r\n")
    let pipeline = context.pipeline.syncOperations
    do {
      let encoder = try pipeline.context(handlerType: HTTPResponseEncoder.self)
      let compressor = try pipeline.context(handlerType: HTTPResponseCompressor.self)
      let decoder = try pipeline.context(
        handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)
      try pipeline.addHandlers(handlers)
      current = nil
      pipeline.removeHandler(context: context, promise: nil)
      pipeline.removeHandler(context: compressor, promise: nil)
      pipeline.removeHandler(context: encoder, promise: nil)
      pipeline.removeHandler(context: decoder, promise: nil)
    } catch {
      context.close(promise: nil)
    }
  }
}
