// A client of the line protocol that blocks, with a deadline for everything.

import Access
import Glibc
import Serving

/// One connection to a node. It belongs to one thread.
public final class LineConnection {
  public let port: Int
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var start = 0
  private var hasEnded = false
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  /// For each line.
  public var seconds: Double = 60

  /// - Parameter transport: TLS; nil for plain text.
  public init(
    port: Int, host: String = "127.0.0.1", receiveBytes: Int32? = nil,
    transport: (any TransportSecurity)? = nil
  ) throws {
    self.port = port
    let connected = try Socket.connect(port, host: host, receiveBytes: receiveBytes)
    descriptor =
      try transport.map { try TLSTunnel.open(connected, host: host, transport: $0) } ?? connected
  }

  deinit { close(descriptor) }

  // MARK: Bytes and lines

  public func send(bytes: [UInt8]) throws {
    var sent = 0
    let deadline = Deadline.seconds(seconds)
    while sent < bytes.count {
      guard Socket.wait(descriptor, POLLOUT, deadline) else {
        throw TestFailure("port \(port) takes no bytes")
      }
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count < 0, errno == EAGAIN || errno == EINTR { continue }
      guard count >= 0 else { throw TestFailure("port \(port) closed the connection") }
      sent += count
    }
  }

  public func send(_ text: String) throws { try send(bytes: Array(text.utf8)) }

  /// Nothing more will be sent; answers still come.
  public func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// The next line without its end; nil when the node closed the connection.
  public func readLine() throws -> String? {
    let deadline = Deadline.seconds(seconds)
    var searched = start
    while true {
      if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        defer { start = end + 1 }
        return String(decoding: buffer[start..<end], as: UTF8.self)
      }
      if hasEnded { return nil }
      if start > 1 << 16 {
        buffer.removeSubrange(..<start)
        start = 0
      }
      searched = buffer.count
      guard Socket.wait(descriptor, POLLIN, deadline) else {
        throw TestFailure("port \(port) did not answer within \(seconds) s")
      }
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count > 0 { buffer += chunk[..<count] } else { hasEnded = true }
    }
  }

  /// Everything until the node closes the connection.
  public func readRest() throws -> String {
    var text = ""
    while let line = try readLine() { text += line + "\n" }
    defer { start = buffer.count }
    return text + String(decoding: buffer[start...], as: UTF8.self)
  }

  // MARK: Requests

  /// What came back for one request.
  public struct Answer: Sendable {
    /// The last line.
    public var json: JSONValue
    /// The rows of all lines.
    public var rows: [[JSONValue]] = []
    public var lines = 1

    public var error: String? { json["error"]?["code"]?.text }
    public var message: String { json["error"]?["message"]?.text ?? "" }
    public var retry: Bool { json["error"]?["retry"] == .bool(true) }
    public var token: String? { json["token"]?.text }
    public var value: JSONValue? { rows.first?.first }
    public var integer: Int64? { value?.integer }
  }

  /// Sends a line and waits for its answer.
  @discardableResult
  public func request(_ line: String) throws -> Answer {
    try send(line + "\n")
    return try receive()
  }

  /// Presents a credential.
  @discardableResult
  public func authenticate(_ token: String) throws -> Answer {
    var output = OutputBytes()
    JSONValue.object([.init("auth", .string(token))]).write(into: &output)
    return try request(output.string)
  }

  /// The answer to the oldest request without one.
  public func receive() throws -> Answer {
    var answer = Answer(json: .null)
    answer.lines = 0
    while true {
      guard let line = try readLine() else {
        throw TestFailure("port \(port) closed the connection without an answer")
      }
      answer.json = try JSONValue.parse(line)
      answer.lines += 1
      if case .array(let rows)? = answer.json["rows"] {
        for case .array(let row) in rows { answer.rows.append(row) }
      }
      if answer.json["more"] != .bool(true) { return answer }
    }
  }

  /// A request object: SQL, arguments and whatever keys else.
  public static func line(
    _ sql: String, _ arguments: [JSONValue] = [], _ options: [(String, JSONValue)] = []
  ) -> String {
    var members: [JSONValue.Member] = [.init("sql", .string(sql))]
    if !arguments.isEmpty { members.append(.init("args", .array(arguments))) }
    members += options.map { .init($0.0, $0.1) }
    var output = OutputBytes()
    JSONValue.object(members).write(into: &output)
    return output.string
  }

  @discardableResult
  public func query(
    _ sql: String, _ arguments: [JSONValue] = [], _ options: [(String, JSONValue)] = []
  ) throws -> Answer {
    try request(Self.line(sql, arguments, options))
  }

  /// A request that must succeed.
  @discardableResult
  public func run(
    _ sql: String, _ arguments: [JSONValue] = [], _ options: [(String, JSONValue)] = []
  ) throws -> Answer {
    let answer = try query(sql, arguments, options)
    if let code = answer.error {
      throw TestFailure("\(code): \(answer.message) (\(sql.prefix(200)))")
    }
    return answer
  }

  public func integer(_ sql: String, _ arguments: [JSONValue] = []) throws -> Int64 {
    guard let number = try run(sql, arguments).integer else {
      throw TestFailure("no integer: \(sql)")
    }
    return number
  }
}

extension JSONValue {
  public var text: String? { if case .string(let text) = self { text } else { nil } }
  public var integer: Int64? { if case .integer(let number) = self { number } else { nil } }
  public var elements: [JSONValue] { if case .array(let elements) = self { elements } else { [] } }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
  public init(stringLiteral text: String) { self = .string(text) }
  public init(integerLiteral number: Int64) { self = .integer(number) }
}
