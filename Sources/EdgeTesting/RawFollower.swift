// A follower that is nothing but a socket: it joins a node as a replica does, and then does what a
// replica never would.

import Serving
import WALShip

/// A follower that wants a whole copy. It belongs to one thread.
public final class RawFollower {
  private let connection: ShipConnection
  private var responses = FragmentAssembler(bytesMax: 1 << 20)
  private var requests: UInt64 = 0

  /// Connects and joins; the node begins to send at once.
  public init(port: Int, name: String, secret: ShipSecret? = nil) throws {
    connection = try ShipConnection(port: port)
    let nonce = ShipSecret.nonce()
    try connection.send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
    let challenge = try ShipChallenge(decoding: try connection.receive(.challenge))
    let join = ShipJoin(
      node: .starting(name: name), want: .copy, position: .none, pageSize: 0)
    let proven = ShipProof.wrap(
      join.encode(), secret: secret, role: .follower, nonces: [nonce, challenge.nonce])
    try connection.send(ShipMessage(.join, body: proven))
    _ = try connection.receive(.welcome)
  }

  /// Says that it is alive, without having read anything.
  public func sendHeartbeat() throws {
    let beat = ShipHeartbeat(epoch: Epoch(0), txid: .zero, contactMilliseconds: 0)
    try connection.send(ShipMessage(.heartbeat, body: beat.encode()))
  }

  /// Forwards a request, as if a client had sent it here.
  public func ask(_ request: EngineRequest) throws -> EngineResponse {
    requests += 1
    for piece in ShipFragment.split(request.encode(), request: requests) {
      try connection.send(ShipMessage(.request, body: piece.encode()))
    }
    while true {
      let piece = try ShipFragment(decoding: try connection.receive(.response))
      if let whole = try responses.receive(piece) { return try EngineResponse(decoding: whole) }
    }
  }

  /// Reads until a whole copy has arrived and returns where the node then stood.
  public func readCopy() throws -> Position {
    let end = try ShipRoundEnd(decoding: try connection.receive(.roundEnd))
    guard end.isConsistent else { return try readCopy() }
    return end.position
  }
}
