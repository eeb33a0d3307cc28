// One client of the HTTP listener: collects requests, finds who asks for what, and writes answers.
// Pipelined requests come one at a time (NIO's `HTTPServerPipelineHandler`).
// Source: RFC 9112

import Logging
import NIOCore
import NIOHTTP1

/// The last handler of a connection. It is used on its event loop alone.
final class HTTPConnection: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  static let bodyBytesMax = 16 << 20
  static let headerBytesMax = 16 << 10
  private static let requestMilliseconds: Int64 = 10_000
  private static let idleMilliseconds: Int64 = 60_000

  let server: HTTPServer
  let loop: any EventLoop
  private var context: ChannelHandlerContext?
  private var head: HTTPRequestHead?
  private var body = ByteBuffer()
  private var call: HTTPCall?
  /// The present request is not wanted any more: what comes of it is thrown away.
  private var isRefusing = false
  private var keepsAlive = true
  private var isDraining = false
  private var isCounted = false
  private var deadline: Scheduled<Void>?
  private var unreadAlarm: Scheduled<Void>?

  init(server: HTTPServer, loop: any EventLoop) {
    self.server = server
    self.loop = loop
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
    guard !isCounted else { return }
    isCounted = true
    if !server.add(self, loop: loop) {
      isDraining = true
      refuse(.tooManyRequests, "this node has as many connections as it may have")
    } else {
      expect(within: Self.idleMilliseconds)
    }
  }

  /// Bytes have arrived: a request must be complete in time once it has begun.
  func bytesArrived() {
    guard call == nil, head == nil, !isTimed else { return }
    isTimed = true
    expect(within: Self.requestMilliseconds)
  }
  private var isTimed = false

  private func expect(within milliseconds: Int64) {
    deadline?.cancel()
    let bound = NIOLoopBound(self, eventLoop: loop)
    deadline = loop.scheduleTask(in: .milliseconds(milliseconds)) { bound.value.close() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): receive(head)
    case .body(let bytes): receive(bytes)
    case .end: receiveEnd()
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent {
      isDraining = true
      if call == nil { close() }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      unreadAlarm?.cancel()
      unreadAlarm = nil
      call?.becameWritable()
    } else if unreadAlarm == nil {
      let bound = NIOLoopBound(self, eventLoop: loop)
      unreadAlarm = loop.scheduleTask(
        in: .milliseconds(Int64(server.limits.unreadMilliseconds))
      ) { bound.value.close() }
    }
    context.fireChannelWritabilityChanged()
  }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    server.logger.debug("connection closed", metadata: ["reason": "\(error)"])
    close()
  }

  private func gone() {
    guard context != nil else { return }
    leave()
    let call = call
    self.call = nil
    call?.gone()
  }

  /// The connection is HTTP no more.
  func leave() {
    context = nil
    deadline?.cancel()
    unreadAlarm?.cancel()
    server.remove(self)
  }

  func close() { context?.close(promise: nil) }

  /// Closes as soon as what is worked on is answered.
  func drain() {
    isDraining = true
    if call == nil, head == nil { close() }
  }

  var isWritable: Bool { context?.channel.isWritable ?? false }

  // MARK: Requests

  private func receive(_ head: HTTPRequestHead) {
    self.head = head
    body.clear()
    isRefusing = false
    keepsAlive = head.isKeepAlive
    let size = head.headers.reduce(head.uri.utf8.count) { size, header in
      size + header.name.utf8.count + header.value.utf8.count + 4
    }
    if size > Self.headerBytesMax {
      refuse(
        .requestHeaderFieldsTooLarge, "the headers have more than \(Self.headerBytesMax) bytes")
    } else if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }),
      length > Self.bodyBytesMax
    {
      refuseBody()
    } else if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
      let head = HTTPResponseHead(version: .http1_1, status: .continue)
      context?.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
    }
  }

  private func receive(_ bytes: ByteBuffer) {
    guard !isRefusing else { return }
    guard body.readableBytes + bytes.readableBytes <= Self.bodyBytesMax else { return refuseBody() }
    body.writeImmutableBuffer(bytes)
  }

  private func refuseBody() {
    refuse(.payloadTooLarge, "the request has more than \(Self.bodyBytesMax) bytes")
  }

  /// Answers before the request is complete, and closes.
  private func refuse(_ status: HTTPResponseStatus, _ message: String) {
    isRefusing = true
    keepsAlive = false
    respond(
      status, type: HTTPType.json, ByteBuffer(string: HTTPErrorBody.json(message)), [:],
      withBody: true)
  }

  private func receiveEnd() {
    deadline?.cancel()
    isTimed = false
    guard let head, !isRefusing else { return }
    self.head = nil
    var whole = ByteBuffer()
    swap(&whole, &body)
    start(HTTPRequest(head: head, body: whole), head)
  }

  private func start(_ request: HTTPRequest, _ head: HTTPRequestHead) {
    if request.method == .OPTIONS {
      return respond(
        .ok, type: HTTPType.text, ByteBuffer(), HTTPHeaders.crossOrigin, withBody: true)
    }
    let target = HTTPTarget(request)
    switch server.router.route(request.method, target.path) {
    case .unknown: respond(.notFound, type: HTTPType.text, ByteBuffer(), [:], withBody: true)
    case .wrongMethod:
      respond(.methodNotAllowed, type: HTTPType.text, ByteBuffer(), [:], withBody: true)
    case .route(let route, let parameters):
      guard let needs = route.needs else {
        // Strangers do not get databases opened.
        guard server.directory.idleMilliseconds == nil else {
          let call = HTTPCall(
            request, path: target.path, lease: nil, rights: AccessRights(), connection: self,
            loop: loop)
          return run(route, call, parameters)
        }
        return server.directory.acquire(target.isHint ? nil : target.database, on: loop) { result in
          let call = HTTPCall(
            request, path: target.path, lease: try? result.get(), rights: AccessRights(),
            connection: self, loop: self.loop)
          self.run(route, call, parameters)
        }
      }
      let rights: AccessRights
      do throws(CredentialError) {
        rights = try HTTPCredential.rights(request.headers, server.verifier)
      } catch {
        return fail(.unauthorized, HTTPErrorBody.unauthorized(error))
      }
      open(target, request, rights) { call in
        guard call.access > .none else {
          let name = call.node.databaseName
          return call.answer(
            .notFound, json: HTTPErrorBody.json("Namespace `\(name)` doesn't exist"))
        }
        guard call.access >= needs else {
          return call.answer(
            .forbidden, json: HTTPErrorBody.json(HTTPErrorBody.forbidden(call.access, needs)))
        }
        self.run(route, call, parameters)
      }
    }
  }

  private func run(_ route: HTTPRoute, _ call: HTTPCall, _ parameters: [String: String]) {
    self.call = call
    call.parameters = parameters
    route.handler(call)
  }

  /// Opens the database that a request means.
  private func open(
    _ target: HTTPTarget, _ request: HTTPRequest, _ rights: AccessRights,
    then: @escaping (HTTPCall) -> Void
  ) {
    let name = target.database ?? server.directory.defaultName
    // Whoever may do nothing with a database does not get it opened either.
    guard target.isHint || rights.level(for: name) > .none else {
      return fail(.notFound, "Namespace `\(name)` doesn't exist")
    }
    server.directory.acquire(target.database, on: loop) { result in
      guard self.context != nil else { return }
      switch result {
      case .success(let lease):
        let call = HTTPCall(
          request, path: target.path, lease: lease, rights: rights, connection: self,
          loop: self.loop)
        self.call = call
        then(call)
      case .failure(let error):
        if target.isHint {
          var plain = target
          plain.database = nil
          plain.isHint = false
          self.open(plain, request, rights, then: then)
        } else if error.code == ErrorCode.databaseNotFound.rawValue {
          self.fail(.notFound, "Namespace `\(target.database ?? "default")` doesn't exist")
        } else {
          self.fail(.serviceUnavailable, error.message)
        }
      }
    }
  }

  private func fail(_ status: HTTPResponseStatus, _ message: String) {
    respond(
      status, type: HTTPType.json, ByteBuffer(string: HTTPErrorBody.json(message)), [:],
      withBody: true)
  }

  // MARK: Answers

  func respond(
    _ status: HTTPResponseStatus, type: String, _ body: ByteBuffer, _ more: HTTPHeaders,
    withBody: Bool
  ) {
    var headers = more
    headers.replaceOrAdd(name: "content-length", value: "\(body.readableBytes)")
    sendHead(status, type: body.readableBytes > 0 ? type : nil, headers)
    if withBody, body.readableBytes > 0 {
      context?.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
    }
    end()
  }

  func begin(_ status: HTTPResponseStatus, type: String, _ more: HTTPHeaders) {
    sendHead(status, type: type, more)
    context?.flush()
  }

  func write(_ bytes: ByteBuffer) {
    context?.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
  }

  func end() {
    guard let context else { return }
    call = nil
    let closes = !keepsAlive || isDraining
    let promise = closes ? context.eventLoop.makePromise(of: Void.self) : nil
    promise?.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    if !closes { expect(within: Self.idleMilliseconds) }
  }

  private func sendHead(_ status: HTTPResponseStatus, type: String?, _ more: HTTPHeaders) {
    var headers = more
    if let type { headers.replaceOrAdd(name: "content-type", value: type) }
    headers.replaceOrAdd(name: "access-control-allow-origin", value: "*")
    if !keepsAlive || isDraining { headers.replaceOrAdd(name: "connection", value: "close") }
    let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    context?.write(wrapOutboundOut(.head(head)), promise: nil)
  }
}

/// Tells the connection that bytes have come, before they are a request.
final class HTTPArrivals: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer
  private weak var connection: HTTPConnection?
  init(connection: HTTPConnection) { self.connection = connection }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    connection?.bytesArrived()
    context.fireChannelRead(data)
  }
}
