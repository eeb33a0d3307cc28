// Frames of a WebSocket, as a client sends and gets them.
// Source: RFC 6455

import Serving

/// A WebSocket on a connection. It belongs to one thread.
public final class WebSocketClient {
  public enum Kind: UInt8, Sendable {
    case continuation = 0
    case text, binary
    case close = 8
    case ping, pong
  }

  public struct Frame: Sendable {
    public var kind: Kind
    public var bytes: [UInt8]
    public var text: String { String(decoding: bytes, as: UTF8.self) }
    /// The code of a `close`.
    public var code: Int? { bytes.count >= 2 ? Int(bytes[0]) << 8 | Int(bytes[1]) : nil }
  }

  public let connection: HTTPClient
  /// The answer to the handshake.
  public let handshake: HTTPMessage

  /// - Parameter transport: TLS; nil for plain text.
  public init(
    port: Int, path: String = "/", headers: [String] = [],
    transport: (any TransportSecurity)? = nil
  ) throws {
    connection = try HTTPClient(port: port, transport: transport)
    let lines = [
      "GET \(path) HTTP/1.1", "Host: localhost", "Connection: keep-alive, Upgrade",
      "Upgrade: WebSocket", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    try connection.send((lines + headers).joined(separator: "\r\n") + "\r\n\r\n")
    handshake = try connection.answer()
  }

  public func send(
    _ kind: Kind, _ bytes: [UInt8], isLast: Bool = true, isMasked: Bool = true
  ) throws {
    var frame = [(isLast ? 0x80 : 0) | kind.rawValue]
    let mask: UInt8 = isMasked ? 0x80 : 0
    switch bytes.count {
    case ..<126: frame.append(mask | UInt8(bytes.count))
    case ..<65536: frame += [mask | 126, UInt8(bytes.count >> 8), UInt8(bytes.count & 255)]
    default:
      frame.append(mask | 127)
      frame += (0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (56 - 8 * $0)) }
    }
    let key: [UInt8] = [1, 2, 3, 4]
    if isMasked { frame += key }
    frame += isMasked ? bytes.enumerated().map { $1 ^ key[$0 & 3] } : bytes
    try connection.send(bytes: frame)
  }

  public func send(_ text: String) throws { try send(.text, Array(text.utf8)) }

  public func receive() throws -> Frame {
    let head = try connection.read(2)
    guard let kind = Kind(rawValue: head[0] & 15), head[0] & 0x80 != 0, head[1] & 0x80 == 0 else {
      throw TestFailure("no frame of a server: \(head)")
    }
    var count = Int(head[1])
    if count > 125 {
      count = try connection.read(count == 126 ? 2 : 8).reduce(0) { $0 << 8 | Int($1) }
    }
    return Frame(kind: kind, bytes: try connection.read(count))
  }

  /// The next message as JSON.
  public func message() throws -> JSONValue {
    let frame = try receive()
    guard frame.kind == .text else { throw TestFailure("\(frame.kind) \(frame.code ?? 0)") }
    return try JSONValue.parse(frame.text)
  }
}
