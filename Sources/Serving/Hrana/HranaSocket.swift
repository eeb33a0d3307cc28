// Hrana over WebSocket: many streams on one connection, in JSON.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import NIOHTTP1
import NIOWebSocket
import Store
import WALShip

/// The handler of one WebSocket. It is used on its event loop alone.
final class HranaSocket: ChannelInboundHandler {
  typealias InboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  static let messageBytesMax = 16 << 20
  static let streamsMax = 128
  /// Messages that wait for the database to be opened.
  private static let waitingMax = 256
  private static let helloMilliseconds: Int64 = 10_000

  let server: HTTPServer
  let loop: any EventLoop
  let version: HranaSubprotocol
  private let target: HTTPTarget
  var context: ChannelHandlerContext?
  /// A message whose end has not come.
  private var fragments: ByteBuffer?
  private var isClosing = false
  private var helloAlarm: Scheduled<Void>?
  private var unreadAlarm: Scheduled<Void>?

  // MARK: State of the protocol

  var lease: DatabaseLease?
  var access = AccessLevel.none
  private var isOpening = false
  private var waiting: [JSONValue] = []
  var texts = HranaTexts()
  var streams: [Int64: HranaStream] = [:]
  /// Streams that end when what was asked of them is done.
  var closing: [HranaStream] = []
  var cursors: [Int64: HranaSocketCursor] = [:]

  init(server: HTTPServer, loop: any EventLoop, version: HranaSubprotocol, head: HTTPRequestHead) {
    self.server = server
    self.loop = loop
    self.version = version
    target = HTTPTarget(HTTPRequest(head: head, body: ByteBuffer()))
  }

  // MARK: Channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    let bound = NIOLoopBound(self, eventLoop: loop)
    helloAlarm = loop.scheduleTask(in: .milliseconds(Self.helloMilliseconds)) {
      bound.value.fail(.policyViolation, "no hello came in time")
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    gone()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { gone() }

  private func gone() {
    context = nil
    helloAlarm?.cancel()
    unreadAlarm?.cancel()
    for stream in Array(streams.values) + closing { stream.close() }
    streams = [:]
    closing = []
    cursors = [:]
    lease = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      unreadAlarm?.cancel()
      unreadAlarm = nil
      context.read()
    } else if unreadAlarm == nil {
      let bound = NIOLoopBound(context, eventLoop: loop)
      unreadAlarm = loop.scheduleTask(
        in: .milliseconds(Int64(server.limits.unreadMilliseconds))
      ) { bound.value.close(promise: nil) }
    }
    context.fireChannelWritabilityChanged()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isClosing else { return }
    let frame = unwrapInboundIn(data)
    switch frame.opcode {
    case .text:
      guard fragments == nil else { return fail(.protocolError, "a message was not complete") }
      take(frame, into: ByteBuffer())
    case .continuation:
      guard let begun = fragments else { return fail(.protocolError, "no message was begun") }
      take(frame, into: begun)
    case .binary: fail(.unacceptableData, "this subprotocol has text messages only")
    case .ping: send(.pong, frame.unmaskedData)
    case .connectionClose:
      isClosing = true
      send(.connectionClose, frame.unmaskedData)
      context.close(promise: nil)
    default: break
    }
  }

  private func take(_ frame: WebSocketFrame, into begun: ByteBuffer) {
    var message = begun
    var bytes = frame.unmaskedData
    guard message.readableBytes + bytes.readableBytes <= Self.messageBytesMax else {
      return fail(.messageTooLarge, "the message is too large")
    }
    message.writeBuffer(&bytes)
    guard frame.fin else {
      fragments = message
      return
    }
    fragments = nil
    do throws(JSONError) {
      receive(try JSONValue.parse(message))
    } catch {
      fail(.dataInconsistentWithMessage, HranaDecoder.unreadable("\(error)").text)
    }
  }

  // MARK: Output

  func send(_ output: consuming OutputBytes) {
    var output = output
    send(.text, output.take())
  }

  private func send(_ opcode: WebSocketOpcode, _ bytes: ByteBuffer) {
    guard let context else { return }
    context.writeAndFlush(
      wrapOutboundOut(WebSocketFrame(fin: true, opcode: opcode, data: bytes)), promise: nil)
  }

  /// Closes the connection, and says why.
  func fail(_ code: WebSocketErrorCode, _ reason: String) {
    guard !isClosing, let context else { return }
    isClosing = true
    var bytes = ByteBuffer()
    bytes.write(webSocketErrorCode: code)
    bytes.writeString(String(decoding: Array(reason.utf8.prefix(120)), as: UTF8.self))
    let frame = WebSocketFrame(fin: true, opcode: .connectionClose, data: bytes)
    let promise = loop.makePromise(of: Void.self)
    promise.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(frame), promise: promise)
  }

  func fail(_ failure: HranaFailure) { fail(.policyViolation, failure.text) }

  // MARK: Messages

  private func receive(_ message: JSONValue) {
    switch message["type"] {
    case .string("hello"): hello(message)
    case .string("request"):
      guard !isOpening else {
        guard waiting.count < Self.waitingMax else { return fail(.malformed("too many requests")) }
        return waiting.append(message)
      }
      guard lease != nil else { return fail(.malformed("the first message must be a hello")) }
      request(message)
    default: fail(.dataInconsistentWithMessage, HranaDecoder.unreadable("unknown type").text)
    }
  }

  private func hello(_ message: JSONValue) {
    helloAlarm?.cancel()
    var credential: String?
    if case .string(let token)? = message["jwt"].nonNull, !token.isEmpty { credential = token }
    let rights: AccessRights
    do throws(CredentialError) {
      rights = try server.verifier?.verify(credential) ?? .full
    } catch { return refuseHello("AUTH_JWT_INVALID", HTTPErrorBody.unauthorized(error)) }
    guard !isOpening else { return fail(.malformed("one hello at a time")) }
    isOpening = true
    open(target.database, rights)
  }

  private func open(_ name: String?, _ rights: AccessRights) {
    server.directory.acquire(name, on: loop) { result in
      guard self.context != nil else { return }
      switch result {
      case .success(let lease): self.opened(lease, rights)
      case .failure where name != nil && self.target.isHint: self.open(nil, rights)
      case .failure(let error): self.refuseHello(error.code, error.message)
      }
    }
  }

  private func opened(_ lease: DatabaseLease, _ rights: AccessRights) {
    isOpening = false
    access = rights.level(for: lease.node.databaseName)
    guard access > .none else {
      let name = lease.node.databaseName
      return refuseHello("NAMESPACE_DOESNT_EXIST", "Namespace `\(name)` doesn't exist")
    }
    self.lease = lease
    for stream in streams.values { stream.session.access = access }
    var output = OutputBytes(capacity: 64)
    output.append("{\"type\":\"hello_ok\"}")
    send(output)
    let waiting = waiting
    self.waiting = []
    for message in waiting where !isClosing { request(message) }
  }

  private func refuseHello(_ code: String, _ message: String) {
    isOpening = false
    var output = OutputBytes(capacity: 256)
    output.append("{\"type\":\"hello_error\",\"error\":")
    HranaError(code: code, message: message).write(into: &output)
    output.append("}")
    send(output)
    fail(.policyViolation, message)
  }
}

extension HranaFailure {
  var text: String {
    switch self {
    case .malformed(let text), .forbidden(let text), .overloaded(let text): text
    case .streamExpired: "The stream has expired due to inactivity"
    case .token(let error): error.message
    }
  }
}

/// The subprotocols that are spoken. Without one it is the first.
enum HranaSubprotocol: String, CaseIterable, Sendable {
  case hrana1, hrana2, hrana3

  /// What a client offers that is known here, in the client's order.
  static func chosen(_ headers: HTTPHeaders) -> HranaSubprotocol {
    let offered = headers[canonicalForm: "sec-websocket-protocol"]
    return offered.lazy.compactMap { HranaSubprotocol(rawValue: String($0)) }.first ?? .hrana1
  }

  /// - Returns: headers for the answer; nil when the upgrade is refused.
  static func accept(_ head: HTTPRequestHead) -> HTTPHeaders? {
    guard HTTPTarget(HTTPRequest(head: head, body: ByteBuffer())).path == "/" else { return nil }
    let offered = head.headers[canonicalForm: "sec-websocket-protocol"]
    guard !offered.isEmpty else { return [:] }
    guard offered.contains(where: { HranaSubprotocol(rawValue: String($0)) != nil }) else {
      return nil
    }
    return ["sec-websocket-protocol": chosen(head.headers).rawValue]
  }
}
