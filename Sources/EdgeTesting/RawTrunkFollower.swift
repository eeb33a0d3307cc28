// A follower of many databases that is nothing but a socket, and takes what it is told to.

import NIOCore
import Serving
import WALShip

/// A link with many databases, by hand. It belongs to one thread.
public final class RawTrunkFollower {
  private let connection: ShipConnection
  private let node = NodeIdentity.starting(name: "raw")
  private let isOver = Flag()

  /// Connects and attaches.
  public init(port: Int, filter: DatabaseFilter = .all, secret: ShipSecret? = nil) throws {
    connection = try ShipConnection(port: port)
    let nonce = ShipSecret.nonce()
    let hello = ShipHello(nonce: nonce, versions: ShipProtocolVersion.many)
    try connection.send(ShipMessage(.hello, body: hello.encode()))
    let challenge = try ShipChallenge(decoding: try connection.receive(.challenge))
    let attach = ShipAttach(node: node, catalogue: .zero, filter: filter)
    let proven = ShipProof.wrap(
      attach.encode(), secret: secret, role: .attach, nonces: [nonce, challenge.nonce])
    try connection.send(ShipMessage(.attach, body: proven))
    _ = try connection.receive(.catalogue)
    // However long the test is kept waiting: the node must hear of this follower.
    BackgroundThread.detach { [connection, isOver] in
      while !isOver.isSet, (try? Self.sendHeartbeat(connection)) != nil { elapse(seconds: 1) }
    }
  }

  deinit { isOver.set() }

  /// Wants a whole copy of a database.
  public func open(_ name: String, on stream: UInt16) throws {
    let join = ShipJoin(node: node, want: .copy, position: .none, pageSize: 0)
    let open = ShipOpen(name: name, join: join)
    try connection.send(ShipMessage(.open, stream: stream, body: open.encode()))
  }

  /// Has room for so many more bytes.
  public func take(_ bytes: Int, of stream: UInt16) throws {
    let window = ShipWindow(bytes: UInt32(bytes))
    try connection.send(ShipMessage(.window, stream: stream, body: window.encode()))
  }

  private static func sendHeartbeat(_ connection: ShipConnection) throws {
    let beat = ShipHeartbeat(epoch: Epoch(0), txid: .zero, contactMilliseconds: 0)
    try connection.send(ShipMessage(.heartbeat, body: beat.encode()))
  }

  public func send(_ message: ShipMessage) throws { try connection.send(message) }

  /// The next message, whatever it is.
  public func receive(by deadline: Deadline) throws -> ShipMessage {
    try connection.receive(by: deadline)
  }
}
