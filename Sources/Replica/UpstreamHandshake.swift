// The first messages of the upstream connection, and the comparison of pages when positions cannot
// be trusted.

import Logging
import NIOCore
import Serving
import Store
import WALShip

extension UpstreamSession {
  func receiveChallenge(_ body: ByteBuffer, _ nonce: [UInt8]) throws {
    let challenge = try ShipChallenge(decoding: body)
    let nonces = [nonce, challenge.nonce]
    if let secret = upstream.secret, !secret.isValid(challenge.proof, .server, nonces) {
      return close(reason: "the upstream does not know the ship secret")
    }
    let join = content.join(upstream.node, wantsComparison: upstream.wantsComparison)
    let proven = ShipProof.wrap(
      join.encode(), secret: upstream.secret, role: .follower, nonces: nonces)
    phase = .join(nonces: nonces)
    send(ShipMessage(.join, body: proven))
  }

  func receiveWelcome(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]) throws {
    guard
      let body = ShipProof.unwrap(wrapped, secret: upstream.secret, role: .welcome, nonces: nonces)
    else { return close(reason: "the upstream does not know the ship secret") }
    let welcome = try ShipWelcome(decoding: body)
    guard !welcome.lineage.contains(upstream.node.id) else {
      return close(reason: "the upstream follows this node")
    }
    try content.welcomed(welcome)
    epoch = welcome.position.epoch
    let receiver = ShipReceiver(at: content.database?.tracker.position.txid ?? .zero)
    phase = .serving(receiver)
    noteHead(welcome.position.txid)
    upstream.joined(welcome)
    switch welcome.plan {
    case .follow:
      adoptHistory(welcome)
      upstream.update { $0.state = "streaming" }
    case .copy: upstream.update { $0.state = "bootstrapping" }
    case .compare: try sendChecksums()
    }
  }

  /// The same transactions can belong to a newer epoch, when the upstream began one behind them.
  func adoptHistory(_ welcome: ShipWelcome) {
    guard let database = content.database else { return }
    var position = database.tracker.position
    if position.txid == welcome.position.txid { position.epoch = welcome.history.current }
    database.tracker.advance(
      to: position, at: database.injector.place, history: welcome.history)
  }

  func receiveRefusal(_ refusal: ShipRefusal) throws {
    reason = "refused by the upstream: \(refusal.message)"
    if refusal.reason == .otherDatabase, content.database == nil { content.discardCopy() }
    close(reason: reason)
  }

  // MARK: Comparisons

  /// Asks to be compared: only the pages that differ are sent.
  func resynchronize(_ reason: String) throws {
    guard case .serving(var receiver) = phase else { return }
    upstream.logger.warning("this replica will be compared", metadata: ["reason": "\(reason)"])
    comparisons += 1
    guard comparisons <= Self.comparisonsMax else {
      return close(reason: "comparisons do not help: \(reason)")
    }
    receiver.foundMismatch()
    phase = .serving(receiver)
    send(ShipMessage(.resynchronize, body: ByteBuffer()))
    try sendChecksums()
  }

  func sendChecksums() throws {
    upstream.update { $0.state = "comparing" }
    let checksums = try content.checksums()
    var first = 0
    repeat {
      let end = min(checksums.count, first + ShipPageChecksums.countMax)
      let part = ShipPageChecksums(
        first: Pgno(UInt32(first + 1)), isLast: end == checksums.count,
        checksums: Array(checksums[first..<end]))
      send(ShipMessage(.pageChecksums, body: part.encode()))
      first = end
    } while first < checksums.count
  }
}
