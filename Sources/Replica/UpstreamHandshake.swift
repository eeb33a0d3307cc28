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
    let ours = ShipProtocolVersion.single
    guard ours.contains(challenge.version) else {
      return close(
        reason: "the upstream chose protocol \(challenge.version), this node speaks "
          + "\(ours.lowerBound) to \(ours.upperBound)")
    }
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

  func receiveWelcome(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]?) throws {
    let unwrapped = nonces.map {
      ShipProof.unwrap(wrapped, secret: upstream.secret, role: .welcome, nonces: $0)
    }
    guard let body = unwrapped ?? wrapped else {
      return close(reason: "the upstream does not know the ship secret")
    }
    let welcome = try ShipWelcome(decoding: body)
    guard !welcome.lineage.contains(upstream.node.id) else {
      return close(reason: "the upstream follows this node")
    }
    let tracker = content.database?.tracker
    let seen = tracker.map { max($0.epochs.current, $0.position.epoch) } ?? Epoch(0)
    guard welcome.history.current >= seen else {
      return close(
        reason: "the upstream is in epoch \(welcome.history.current), this replica has seen epoch "
          + "\(seen): it does not go back")
    }
    try content.welcomed(welcome)
    epoch = welcome.position.epoch
    let receiver = ShipReceiver(at: content.database?.tracker.position.txid ?? .zero)
    phase = .serving(receiver)
    upstream.joined(welcome)
    noteHead(welcome.position.txid)
    switch welcome.plan {
    case .follow:
      try adoptHistory(welcome)
      upstream.update { $0.state = "streaming" }
      try content.checkServing(head: welcome.position.txid)
      upstream.checkRest()
      if !content.damaged.isEmpty { try repair() }
    case .copy: upstream.update { $0.state = "bootstrapping" }
    case .compare: compare(welcome.scope, keepsAside: leavesHistory(welcome))
    }
  }

  /// Whether transactions that this replica has are not part of the upstream's history.
  private func leavesHistory(_ welcome: ShipWelcome) -> Bool {
    guard let database = content.database else { return false }
    let position = database.tracker.position
    // The same pages under another name are no loss.
    if position.txid == welcome.position.txid, position.checksum == welcome.position.checksum {
      return false
    }
    return database.isForeign || position.txid > welcome.position.txid
      || !welcome.history.contains(epoch: position.epoch, txid: position.txid)
  }

  /// The same transactions can belong to a newer epoch, when the upstream began one behind them.
  func adoptHistory(_ welcome: ShipWelcome) throws {
    guard let database = content.database else { return }
    var position = database.tracker.position
    if position.txid == welcome.position.txid { position.epoch = welcome.history.current }
    try database.adopt(welcome.history)
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
  func resynchronize(_ reason: String, _ scope: FollowerPages.Scope = .all) throws {
    guard case .serving(var receiver) = phase else { return }
    upstream.logger.warning("this replica will be compared", metadata: ["reason": "\(reason)"])
    comparisons += 1
    guard comparisons <= Self.comparisonsMax else {
      return close(reason: "comparisons do not help: \(reason)")
    }
    receiver.foundMismatch()
    phase = .serving(receiver)
    send(ShipMessage(.resynchronize, body: ShipResynchronize(scope).encode()))
    compare(scope, keepsAside: false)
  }

  /// Asks for the damaged pages, and for whatever else changed since.
  func repair() throws {
    guard case .serving(let receiver) = phase, case .streaming(let txid) = receiver.state,
      !content.isPreparing
    else { return }
    try publish()
    try resynchronize("\(content.damaged.count) pages are damaged", .since(txid))
  }

  private func compare(_ scope: FollowerPages.Scope, keepsAside: Bool) {
    upstream.update { $0.state = "comparing" }
    content.prepare(scope, keepsAside: keepsAside) { [self] result in
      guard isServing else { return }
      do {
        try result.get()
        for part in content.checksums(scope) {
          send(ShipMessage(.pageChecksums, body: part.encode()))
        }
        outlet?.flush()
      } catch {
        fail(error)
      }
    }
  }
}
