// A node that is a recording: it answers a follower with what a node of an earlier release once
// sent. Without a secret nobody looks at the proofs, so a recorded handshake is as good as a new one.

import Glibc
import NIOCore
import Synchronization
import WALShip

/// Plays the stream of a server to every follower that connects. Safe to use from any thread.
public final class StreamPlayer: Sendable {
  public let port: Int
  private let thread: BackgroundThread
  private let isStopped = Flag()

  /// - Parameter stream: the bytes that a server sent on one connection.
  public init(_ stream: [UInt8]) throws {
    var buffer = ByteBuffer(bytes: stream)
    var messages: [ShipMessage] = []
    while let message = try buffer.readShipMessage() { messages.append(message) }
    let (listener, port) = try Socket.listen()
    self.port = port
    let isStopped = isStopped
    thread = BackgroundThread { [messages] in
      defer { close(listener) }
      while !isStopped.isSet {
        guard Socket.wait(listener, POLLIN, .seconds(0.1)) else { continue }
        let follower = accept(listener, nil, nil)
        guard follower >= 0 else { continue }
        // A follower that breaks off connects again.
        try? Self.serve(follower, messages, until: isStopped)
        close(follower)
      }
    }
  }

  deinit {
    isStopped.set()
    try? thread.join()
  }

  /// What the follower must have said before a message can come.
  private static func trigger(_ kind: ShipMessageKind, isComparison: Bool) -> ShipMessageKind? {
    switch kind {
    case .challenge: .hello
    case .welcome: .join
    case .catchUp: isComparison ? .pageChecksums : nil
    default: nil
    }
  }

  private static func serve(
    _ follower: Int32, _ messages: [ShipMessage], until isStopped: Flag
  ) throws {
    var received = ByteBuffer()
    var heard: Set<ShipMessageKind> = []
    var rest = messages[...]
    var isComparison = false
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while !isStopped.isSet {
      while let next = rest.first {
        if let wanted = trigger(next.kind, isComparison: isComparison), !heard.contains(wanted) {
          break
        }
        if next.kind == .welcome {
          var body = next.body
          body.moveReaderIndex(forwardBy: 32)
          isComparison = try ShipWelcome(decoding: body).plan == .compare
        }
        try send(next, to: follower)
        rest = rest.dropFirst()
      }
      guard Socket.wait(follower, POLLIN, .seconds(0.1)) else { continue }
      let count = recv(follower, &chunk, chunk.count, 0)
      guard count > 0 else { return }
      received.writeBytes(chunk[..<count])
      while let message = try received.readShipMessage() {
        guard message.kind == .pageChecksums else {
          heard.insert(message.kind)
          continue
        }
        if try ShipPageChecksums(decoding: message.body).isLast { heard.insert(.pageChecksums) }
      }
    }
  }

  private static func send(_ message: ShipMessage, to follower: Int32) throws {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    while bytes.readableBytes > 0 {
      guard Socket.wait(follower, POLLOUT, .seconds(30)) else {
        throw TestFailure("the follower takes no bytes")
      }
      let count = bytes.withUnsafeReadableBytes {
        Glibc.send(follower, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count < 0, errno == EAGAIN || errno == EINTR { continue }
      guard count >= 0 else { throw TestFailure("the follower closed the connection") }
      bytes.moveReaderIndex(forwardBy: count)
    }
  }
}
