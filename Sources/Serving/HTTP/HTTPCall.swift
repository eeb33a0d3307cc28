// One HTTP request, complete with its body, and the way to answer it. What routes need of HTTP, and
// nothing of sockets.

import NIOCore
import NIOHTTP1

/// A request that a route answers, once. It is used on its loop alone.
public final class HTTPCall {
  public let method: HTTPMethod
  /// Without the query, and without the prefix that chooses a database.
  public let path: String
  public let query: String?
  /// What the pattern of the route found, by name.
  public internal(set) var parameters: [String: String] = [:]
  public let headers: HTTPHeaders
  public let body: ByteBuffer
  public let loop: any EventLoop
  /// Keeps the database open; nil for routes that need no rights, and while it is given back.
  private(set) var lease: DatabaseLease?
  public let rights: AccessRights
  /// What the client may do with the database.
  public let access: AccessLevel
  private weak var connection: HTTPConnection?
  private let allowsBody: Bool

  /// Called when the client is gone before the answer is complete.
  public var onGone: (() -> Void)?
  /// Called when the node stops: an answer that only waits ends now.
  var onDrain: (() -> Void)?
  private var room: (() -> Void)?
  private(set) var hasBegun = false
  private(set) var isOver = false

  init(
    _ request: HTTPRequest, path: String, lease: DatabaseLease?, rights: AccessRights,
    access: AccessLevel, connection: HTTPConnection
  ) {
    method = request.method
    self.path = path
    query = request.query
    headers = request.headers
    body = request.body
    loop = connection.loop
    self.lease = lease
    self.rights = rights
    self.access = access
    self.connection = connection
    allowsBody = request.method != .HEAD
  }

  /// The database that the request chose.
  public var node: NodeContext {
    guard let lease else { preconditionFailure("the route asked for no database") }
    return lease.node
  }

  /// Whether the node stops.
  var isDraining: Bool { connection?.isDraining ?? true }

  // MARK: The database

  /// Lets the database be closed while there is nothing to do with it.
  func giveBack() { lease = nil }

  /// Gets a database again that was given back.
  ///
  /// - Parameter then: nothing happens when the client is gone by then.
  func takeBack(_ name: String, then: @escaping (RequestError?) -> Void) {
    let bound = NIOLoopBound((self, then), eventLoop: loop)
    connection?.server.directory.acquire(name, on: loop) { result in
      let (call, then) = bound.value
      guard !call.isOver else { return }
      switch result {
      case .success(let lease):
        call.lease = lease
        then(nil)
      case .failure(let error): then(error)
      }
    }
  }

  // MARK: Answers

  /// Answers with everything at once.
  public func answer(
    _ status: HTTPResponseStatus, type: String, _ body: ByteBuffer, headers: HTTPHeaders = [:]
  ) {
    guard !isOver else { return }
    isOver = true
    forget()
    connection?.respond(status, type: type, body, headers)
  }

  public func answer(_ status: HTTPResponseStatus, json: String, headers: HTTPHeaders = [:]) {
    answer(status, type: HTTPType.json, ByteBuffer(string: json), headers: headers)
  }

  public func answer(_ status: HTTPResponseStatus, text: String) {
    answer(status, type: HTTPType.text, ByteBuffer(string: text))
  }

  /// Begins an answer that comes in pieces.
  public func begin(_ status: HTTPResponseStatus, type: String, headers: HTTPHeaders = [:]) {
    guard !isOver, !hasBegun else { return }
    hasBegun = true
    // Nobody wants what would follow.
    guard allowsBody else { return answer(status, type: type, ByteBuffer(), headers: headers) }
    connection?.begin(status, type: type, headers)
  }

  /// Sends a piece.
  public func write(_ bytes: ByteBuffer) {
    guard !isOver, hasBegun else { return }
    connection?.write(bytes)
    connection?.flush()
  }

  /// Ends an answer that came in pieces.
  public func end() {
    guard !isOver else { return }
    isOver = true
    forget()
    connection?.end()
  }

  /// Breaks off an answer that cannot be completed: the client sees that it is cut short.
  public func abort() {
    guard !isOver else { return }
    isOver = true
    forget()
    connection?.abort()
  }

  /// Whether the client takes what it is sent.
  public var isWritable: Bool { connection?.isWritable ?? false }

  /// Calls `body` as soon as the client takes more; never when it is gone.
  public func whenWritable(_ body: @escaping () -> Void) {
    if isWritable { body() } else { room = body }
  }

  func becameWritable() {
    guard let room else { return }
    self.room = nil
    room()
  }

  func gone() {
    isOver = true
    room = nil
    let end = onGone
    forget()
    end?()
  }

  func drain() { onDrain?() }

  private func forget() {
    onGone = nil
    onDrain = nil
  }
}

/// The media types of answers.
public enum HTTPType {
  public static let json = "application/json"
  public static let text = "text/plain"
  public static let bytes = "application/octet-stream"
}

/// A request as it came.
struct HTTPRequest {
  var method: HTTPMethod
  var path: String
  var query: String?
  var headers: HTTPHeaders
  var body: ByteBuffer

  init(head: HTTPRequestHead, body: ByteBuffer) {
    method = head.method
    if let mark = head.uri.utf8.firstIndex(of: UInt8(ascii: "?")) {
      path = String(head.uri[..<mark])
      query = String(head.uri[head.uri.index(after: mark)...])
    } else {
      path = head.uri
    }
    headers = head.headers
    self.body = body
  }
}
