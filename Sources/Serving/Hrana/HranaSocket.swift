// Hrana over WebSocket: many streams on one connection, in JSON.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import NIOHTTP1
import NIOWebSocket
import Store
import WALShip

/// The handler of one WebSocket. It is used on its event loop alone.
final class HranaSocket: ChannelDuplexHandler, ClientConnection {
  typealias InboundIn = WebSocketFrame
  typealias OutboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  static let messageBytesMax = 16 << 20
  static let streamsMax = 128
  /// Messages that wait for the database to be opened.
  static let waitingMax = 256
  private static let helloMilliseconds: Int64 = 10_000
  private static let lingerMilliseconds: Int64 = 1000
  /// With more, nothing is read until some are answered.
  private static let requestsMax = 256

  let server: HTTPServer
  let loop: any EventLoop
  private let connections: ClientConnections
  let target: HTTPTarget
  var context: ChannelHandlerContext?
  /// A message whose end has not come.
  private var fragments: ByteBuffer?
  var isClosing = false
  var helloAlarm: Scheduled<Void>?
  private var unreadAlarm: Scheduled<Void>?
  private var wantsRead = false
  private var isDraining = false

  // MARK: State of the protocol

  var credential: String?
  var requestsInProgress = 0
  /// Nil before the hello, and while the connection rests.
  var lease: DatabaseLease?
  /// The database that the hello has opened.
  var databaseName: String?
  /// What the streams of a connection that rests go on with; nil while it does not.
  var resting: [Int64: RestingStream]?
  var usedNanoseconds: UInt64 = 0
  var access = AccessLevel.none
  var isOpening = false
  var waiting: [JSONValue] = []
  var texts = HranaTexts()
  var streams: [Int64: HranaStream] = [:]
  /// They are closed as soon as they have done what they were asked.
  var leaving: [HranaStream] = []
  var cursors: [Int64: HranaSocketCursor] = [:]

  private init(
    server: HTTPServer, loop: any EventLoop, connections: ClientConnections, target: HTTPTarget
  ) {
    self.server = server
    self.loop = loop
    self.connections = connections
    self.target = target
  }

  /// The handlers of a connection that has left HTTP.
  static func handlers(
    server: HTTPServer, loop: any EventLoop, connections: ClientConnections,
    handshake: HranaHandshake
  ) -> [any ChannelHandler] {
    [
      WebSocketFrameEncoder(),
      ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: messageBytesMax)),
      HranaSocket(
        server: server, loop: loop, connections: connections, target: handshake.target),
    ]
  }

  // MARK: Channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if !connections.add(self) {
      return fail(.policyViolation, "this node has as many connections as it may have")
    }
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
    guard context != nil else { return }
    context = nil
    connections.remove(self)
    helloAlarm?.cancel()
    unreadAlarm?.cancel()
    for stream in Array(streams.values) + leaving {
      stream.onIdle = nil
      stream.close()
    }
    streams = [:]
    leaving = []
    cursors = [:]
    resting = nil
    lease = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? NIOWebSocketError else { return context.close(promise: nil) }
    let code: WebSocketErrorCode =
      switch error {
      case .invalidFrameLength: .messageTooLarge
      default: .protocolError
      }
    fail(code, "this is no frame that can be read")
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed? = event as? ChannelEvent else {
      return context.fireUserInboundEventTriggered(event)
    }
    context.close(promise: nil)
  }

  // MARK: Reading

  func read(context: ChannelHandlerContext) {
    guard mayRead else {
      wantsRead = true
      return
    }
    context.read()
  }

  private var mayRead: Bool {
    if isClosing { return true }
    return requestsInProgress < Self.requestsMax && !isOpening
      && context?.channel.isWritable ?? false
  }

  func readIfWanted() {
    guard wantsRead, mayRead else { return }
    wantsRead = false
    context?.read()
  }

  /// A request has been answered.
  func finished() {
    requestsInProgress -= 1
    readIfWanted()
    if isDraining, requestsInProgress == 0 { fail(.goingAway, "this node stops") }
  }

  func drain() {
    isDraining = true
    if requestsInProgress == 0 { fail(.goingAway, "this node stops") }
  }

  func abort() { context?.close(promise: nil) }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      unreadAlarm?.cancel()
      unreadAlarm = nil
      readIfWanted()
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
    guard frame.maskKey != nil else { return fail(.protocolError, "clients must mask frames") }
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
      closeOutput()
    case .pong: break
    default: fail(.protocolError, "there is no such frame")
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
    context.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    closeOutput()
  }

  /// The client gets a moment to read what was sent.
  private func closeOutput() {
    guard let context else { return }
    context.close(mode: .output, promise: nil)
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .milliseconds(Self.lingerMilliseconds)) { bound.value.abort() }
    readIfWanted()
  }

  func fail(_ failure: HranaFailure) { fail(.policyViolation, failure.text) }
}

extension HranaFailure {
  var text: String {
    switch self {
    case .malformed(let text), .query(let text), .forbidden(let text), .overloaded(let text): text
    case .streamExpired: "The stream has expired due to inactivity"
    case .token(let error): error.message
    }
  }
}
