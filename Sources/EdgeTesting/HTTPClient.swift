// A client of HTTP that blocks, with a deadline for everything, and sends what it is told: also what
// no library would.

import Access
import Glibc
import Serving

/// An answer of HTTP.
public struct HTTPMessage: Sendable {
  public var status: Int
  /// By names in lower case.
  public var headers: [String: String]
  public var body: [UInt8]

  public var text: String { String(decoding: body, as: UTF8.self) }
  public var json: JSONValue { get throws { try JSONValue.parse(text) } }
}

/// One connection. It belongs to one thread.
public final class HTTPClient {
  public let port: Int
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var start = 0
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  private static let seconds = 60.0

  /// - Parameter transport: TLS; nil for plain text.
  public init(
    port: Int, receiveBytes: Int32? = nil, transport: (any TransportSecurity)? = nil
  ) throws {
    self.port = port
    let connected = try Socket.connect(port, receiveBytes: receiveBytes)
    descriptor =
      try transport.map { try TLSTunnel.open(connected, host: "127.0.0.1", transport: $0) }
      ?? connected
  }

  deinit { close(descriptor) }

  // MARK: Requests

  /// Sends a request and waits for its answer.
  @discardableResult
  public func request(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) throws -> HTTPMessage {
    try send(Self.text(method, path, body, headers: headers))
    return try answer(hasBody: method != "HEAD")
  }

  public static func text(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) -> String {
    let lines =
      ["\(method) \(path) HTTP/1.1", "Host: localhost", "Content-Length: \(body.utf8.count)"]
      + headers
    return lines.joined(separator: "\r\n") + "\r\n\r\n" + body
  }

  public func send(_ text: String) throws { try send(bytes: Array(text.utf8)) }

  public func send(bytes: [UInt8]) throws {
    guard trySend(bytes: bytes) else { throw TestFailure("port \(port) takes no bytes") }
  }

  /// - Returns: false when the node takes no more, or has closed the connection.
  public func trySend(bytes: [UInt8]) -> Bool {
    var sent = 0
    let deadline = Deadline.seconds(Self.seconds)
    while sent < bytes.count {
      guard Socket.wait(descriptor, POLLOUT, deadline) else { return false }
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count < 0, errno == EAGAIN || errno == EINTR { continue }
      guard count >= 0 else { return false }
      sent += count
    }
    return true
  }

  /// Nothing more will be sent.
  public func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  // MARK: Answers

  public func answer(hasBody: Bool = true) throws -> HTTPMessage {
    let first = try line()
    let words = first.split(separator: " ")
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      throw TestFailure("no answer of HTTP: \(first)")
    }
    var message = HTTPMessage(status: status, headers: [:], body: [])
    while true {
      let line = try line()
      if line.isEmpty { break }
      let parts = line.split(separator: ":", maxSplits: 1)
      message.headers[parts[0].lowercased()] = parts[1].drop { $0 == " " }.description
    }
    if !hasBody || status < 200 { return message }
    if message.headers["transfer-encoding"] == "chunked" {
      while true {
        guard let count = Int(try line(), radix: 16) else { throw TestFailure("no chunk") }
        message.body += try read(count)
        guard try line().isEmpty else { throw TestFailure("a chunk is longer than it says") }
        if count == 0 { break }
      }
    } else if let length = message.headers["content-length"].flatMap({ Int($0) }) {
      message.body = try read(length)
    } else if status != 101 {
      message.body = try readRest()
    }
    return message
  }

  /// Exactly so many bytes.
  public func read(_ count: Int) throws -> [UInt8] {
    while buffer.count - start < count {
      guard try receive() else { throw TestFailure("port \(port) closed the connection") }
    }
    defer { start += count }
    return Array(buffer[start..<start + count])
  }

  /// Everything until the node closes the connection.
  public func readRest() throws -> [UInt8] {
    while try receive() {}
    defer { start = buffer.count }
    return Array(buffer[start...])
  }

  private func line() throws -> String {
    while true {
      if let end = buffer[start...].firstIndex(of: UInt8(ascii: "\n")) {
        let line = buffer[start..<end]
        start = end + 1
        return String(decoding: line.last == 13 ? line.dropLast() : line, as: UTF8.self)
      }
      guard try receive() else { throw TestFailure("port \(port) closed the connection") }
    }
  }

  /// - Returns: false at the end.
  private func receive() throws -> Bool {
    if start > 1 << 16 {
      buffer.removeSubrange(..<start)
      start = 0
    }
    guard Socket.wait(descriptor, POLLIN, .seconds(Self.seconds)) else {
      throw TestFailure("port \(port) did not answer")
    }
    let count = recv(descriptor, &chunk, chunk.count, 0)
    guard count > 0 else { return false }
    buffer += chunk[..<count]
    return true
  }
}
