// Messages of the ship protocol over a socket, for tests that speak it by hand.

import Glibc
import NIOCore
import Synchronization
import WALShip

/// A connection to a node's ship port. It belongs to one thread, apart from `send`.
public final class ShipConnection: @unchecked Sendable {  // one thread receives; sends are locked
  private let descriptor: Int32
  private let sending = Mutex(())
  private var received = ByteBuffer()

  public init(port: Int) throws { descriptor = try Socket.connect(port, receiveBytes: 1 << 16) }

  deinit { close(descriptor) }

  public func send(_ message: ShipMessage) throws {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    try send(bytes: Array(bytes.readableBytesView))
  }

  public func send(bytes: [UInt8]) throws {
    try sending.withLock { _ in try sendAll(ByteBuffer(bytes: bytes)) }
  }

  private func sendAll(_ bytes: ByteBuffer) throws {
    var bytes = bytes
    while bytes.readableBytes > 0 {
      guard Socket.wait(descriptor, POLLOUT, .seconds(30)) else {
        throw TestFailure("the node takes no bytes")
      }
      let count = bytes.withUnsafeReadableBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count < 0, errno == EAGAIN || errno == EINTR { continue }
      guard count >= 0 else { throw TestFailure("the node closed the connection") }
      bytes.moveReaderIndex(forwardBy: count)
    }
  }

  /// The body of the next message of a kind; others are read and forgotten.
  public func receive(_ kind: ShipMessageKind) throws -> ByteBuffer {
    let deadline = Deadline.seconds(60)
    while true {
      let message = try receive(by: deadline)
      if message.kind == kind { return message.body }
    }
  }

  /// The next message. Heartbeats come for ever: who waits for something else says until when.
  public func receive(by deadline: Deadline = .seconds(30)) throws -> ShipMessage {
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      guard !deadline.isOver else { throw TestFailure("what was waited for did not come") }
      if let message = try received.readShipMessage() { return message }
      received.discardReadBytes()
      guard Socket.wait(descriptor, POLLIN, deadline) else {
        throw TestFailure("the node sends nothing")
      }
      let count = recv(descriptor, &chunk, chunk.count, 0)
      guard count > 0 else { throw TestFailure("the node closed the connection") }
      received.writeBytes(chunk[..<count])
    }
  }
}
