// One request and its answer, as the handlers of routes see them.

import NIOCore
import NIOHTTP1

/// A request that is complete, and the way to answer it. It is used on its loop alone.
public final class HTTPCall {
  public let method: HTTPMethod
  /// Without the query, and without a `/dev/NAME` before it.
  public let path: String
  public let query: String?
  public let headers: HTTPHeaders
  public let body: ByteBuffer
  public let loop: any EventLoop
  public let server: HTTPServer
  /// The parts of the path that the route names.
  public internal(set) var parameters: [String: String] = [:]
  /// What the client's credential allows.
  public internal(set) var rights = AccessRights()
  /// What it allows for the database.
  public var access = AccessLevel.none
  /// Keeps the database open; handlers that go on with it after the answer hold on to it.
  public internal(set) var lease: DatabaseLease?
  /// Called when the client is gone before its answer was complete.
  public var onGone: (() -> Void)? {
    didSet { if isGone, let onGone { onGone() } }
  }

  private weak var connection: HTTPConnection?
  private enum Phase { case open, streaming, answered }
  private var phase = Phase.open

  init(
    head: HTTPRequestHead, path: String, query: String?, body: ByteBuffer, server: HTTPServer,
    connection: HTTPConnection
  ) {
    method = head.method
    self.path = path
    self.query = query
    headers = head.headers
    self.body = body
    self.server = server
    self.connection = connection
    loop = connection.loop
  }

  /// The database that the request chose. Only for routes that need one.
  public var node: NodeContext {
    guard let lease else { preconditionFailure("the route \(path) does not open a database") }
    return lease.node
  }

  /// Whether the client is gone; answers then go nowhere.
  public private(set) var isGone = false

  func gone() {
    guard !isGone, phase != .answered else { return }
    isGone = true
    connection = nil
    onGone?()
    onGone = nil
  }

  // MARK: Answers

  /// Answers as a whole.
  public func answer(
    _ status: HTTPResponseStatus, type: String, _ body: ByteBuffer, headers: HTTPHeaders = [:]
  ) {
    precondition(phase == .open, "a request has one answer")
    phase = .answered
    onGone = nil
    var headers = headers
    if !type.isEmpty { headers.replaceOrAdd(name: "Content-Type", value: type) }
    headers.replaceOrAdd(name: "Content-Length", value: "\(body.readableBytes)")
    connection?.write(head: status, headers, isStreamed: false)
    connection?.write(body: body)
    connection?.endAnswer()
  }

  /// Answers with nothing but a status.
  public func answer(_ status: HTTPResponseStatus, headers: HTTPHeaders = [:]) {
    answer(status, type: "", ByteBuffer(), headers: headers)
  }

  /// Begins an answer that is written piece by piece.
  public func begin(_ status: HTTPResponseStatus, type: String, headers: HTTPHeaders = [:]) {
    precondition(phase == .open, "a request has one answer")
    phase = .streaming
    var headers = headers
    headers.replaceOrAdd(name: "Content-Type", value: type)
    guard method != .HEAD else { return answerHead(status, headers) }
    connection?.write(head: status, headers, isStreamed: true)
  }

  /// Nobody wants the rest.
  private func answerHead(_ status: HTTPResponseStatus, _ headers: HTTPHeaders) {
    connection?.write(head: status, headers, isStreamed: false)
    connection?.endAnswer()
    gone()
  }

  /// Sends a piece of the answer.
  public func write(_ bytes: ByteBuffer) {
    precondition(phase == .streaming, "the answer has not begun, or has ended")
    connection?.write(body: bytes)
    connection?.flushAnswer()
  }

  /// Ends an answer that was begun.
  public func end() {
    precondition(phase == .streaming, "the answer has not begun, or has ended")
    phase = .answered
    onGone = nil
    connection?.endAnswer()
  }

  /// Cuts off an answer that cannot be completed, so that the client does not take it for whole.
  public func fail() {
    phase = .answered
    onGone = nil
    connection?.abort()
  }

  /// Whether more of the answer may be written now.
  public var isWritable: Bool { connection?.hasRoom ?? true }

  /// Calls `body` once there is room for more.
  public func whenWritable(_ body: @escaping () -> Void) {
    guard let connection, !connection.hasRoom else { return body() }
    connection.onRoom = body
  }

  /// Leaves HTTP: answers 101, and puts `handlers` in the place of HTTP's.
  func upgrade(headers: HTTPHeaders, to handlers: [any ChannelHandler]) {
    precondition(phase == .open, "a request has one answer")
    phase = .answered
    onGone = nil
    connection?.upgrade(headers: headers, to: handlers)
  }
}

extension HTTPCall {
  /// Answers `{"error":…}`.
  public func refuse(_ status: HTTPResponseStatus, _ message: String, headers: HTTPHeaders = [:]) {
    var output = OutputBytes(capacity: 256)
    output.append("{\"error\":")
    output.writeJSONString(message)
    output.append("}")
    answer(status, type: "application/json", output.take(), headers: headers)
  }
}
