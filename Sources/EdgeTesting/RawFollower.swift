// A follower that is nothing but a socket: it joins a node as a replica does, and then does what a
// replica never would.

import Glibc
import NIOCore
import Serving
import WALShip

/// A follower that wants a whole copy. It belongs to one thread.
public final class RawFollower {
  private let descriptor: Int32
  private var received = ByteBuffer()

  /// Connects and joins; the node begins to send at once.
  public init(port: Int, name: String) throws {
    descriptor = try Socket.connect(port, receiveBytes: 1 << 16)
    let nonce = ShipSecret.nonce()
    try send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
    let challenge = try ShipChallenge(decoding: try receive(.challenge))
    let join = ShipJoin(
      node: .starting(name: name), want: .copy, position: .none, pageSize: 0)
    let proven = ShipProof.wrap(
      join.encode(), secret: nil, role: .follower, nonces: [nonce, challenge.nonce])
    try send(ShipMessage(.join, body: proven))
    _ = try receive(.welcome)
  }

  deinit { close(descriptor) }

  /// Says that it is alive, without having read anything.
  public func sendHeartbeat() throws {
    let beat = ShipHeartbeat(epoch: Epoch(0), txid: .zero, contactMilliseconds: 0)
    try send(ShipMessage(.heartbeat, body: beat.encode()))
  }

  /// Reads until a whole copy has arrived and returns where the node then stood.
  public func readCopy() throws -> Position {
    let end = try ShipRoundEnd(decoding: try receive(.roundEnd))
    guard end.isConsistent else { return try readCopy() }
    return end.position
  }

  private func send(_ message: ShipMessage) throws {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
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
  private func receive(_ kind: ShipMessageKind) throws -> ByteBuffer {
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      while let message = try received.readShipMessage() {
        if message.kind == kind { return message.body }
      }
      received.discardReadBytes()
      guard Socket.wait(descriptor, POLLIN, .seconds(30)) else {
        throw TestFailure("the node sends nothing")
      }
      let count = recv(descriptor, &chunk, chunk.count, 0)
      guard count > 0 else { throw TestFailure("the node closed the connection") }
      received.writeBytes(chunk[..<count])
    }
  }
}
