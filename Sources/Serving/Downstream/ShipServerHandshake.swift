// The first messages of a follower's connection: who it is, whether it knows the secret, and how it
// will be served.

import Logging
import NIOCore
import Store
import WALShip

extension ShipServerSession {
  func receiveHello(_ body: ByteBuffer) throws {
    let hello = try ShipHello(decoding: body)
    guard
      let version = ShipProtocolVersion.choose(
        lowest: hello.lowestVersion, highest: hello.highestVersion)
    else {
      return refuse(
        .version,
        ShipProtocolVersion.choose(
          lowest: hello.lowestVersion, highest: hello.highestVersion, of: ShipProtocolVersion.many)
          == nil
          ? "this node speaks protocol \(ShipProtocolVersion.single.lowerBound) to "
            + "\(ShipProtocolVersion.single.upperBound), the follower \(hello.lowestVersion) to "
            + "\(hello.highestVersion)"
          : "this node serves one database: follow it with --db, not with --data")
    }
    let nonces = [hello.nonce, ShipSecret.nonce()]
    let proof = server.secret?.proof(.server, nonces) ?? []
    let challenge = ShipChallenge(version: version, nonce: nonces[1], proof: proof)
    phase = .join(nonces: nonces)
    send(ShipMessage(.challenge, body: challenge.encode()))
  }

  func receiveJoin(_ wrapped: ByteBuffer, _ nonces: [[UInt8]]?) throws {
    guard let nonces else { throw ShipProtocolError.unexpected("a second join") }
    guard
      let body = ShipProof.unwrap(wrapped, secret: server.secret, role: .follower, nonces: nonces)
    else { return refuse(.authentication, "the follower does not know the ship secret") }
    accept(try ShipJoin(decoding: body), nonces: nonces)
  }

  /// - Parameter nonces: nil when the link as a whole is proven.
  func accept(_ join: ShipJoin, nonces: [[UInt8]]?) {
    let lineage = source.lineage()
    let position = source.tracker.position
    let pageSize = UInt32(source.map.identity.pageSize.bytes)
    status.name = join.node.name
    status.txid = join.position.txid
    if join.node.id == source.node.id || lineage.contains(join.node.id) {
      return refuse(.loop, "a node cannot follow itself, nor a node that follows it")
    }
    if join.want != .copy, !position.database.isNamed(by: join.position.database) {
      return refuse(
        .otherDatabase,
        "the follower holds database \(join.position.database), this node serves \(position.database)"
      )
    }
    if join.pageSize != 0, join.pageSize != pageSize {
      return refuse(
        .pageSize, "the follower's pages have \(join.pageSize) bytes, this node's \(pageSize)")
    }
    let ours = source.tracker.epochs.current
    if join.want != .copy, join.seen > ours {
      // So many promotions were not: it is a mistake, or worse.
      if join.seen.rawValue - ours.rawValue < 1 << 16 { source.superseded(join.seen) }
      return refuse(
        .olderHistory,
        "the follower has seen epoch \(join.seen), this node is still in epoch "
          + "\(position.epoch): it is not the primary any more")
    }
    if let trouble = server.trouble { return refuse(trouble.reason, trouble.message) }
    if let damage = source.health?.damage { return refuse(.notReady, damage) }
    let history = source.tracker.epochs
    guard position.epoch == history.current else {
      return refuse(.notReady, "this node is changing over to another history")
    }
    let theirs = join.position
    // Only the primary may take back what a follower has served.
    if source.role == .replica, join.want != .copy, theirs.txid > position.txid,
      history.contains(epoch: theirs.epoch, txid: theirs.txid)
    {
      return refuse(.notReady, "this replica is behind the follower")
    }
    if source.role == .primary, join.want != .copy, theirs.epoch == position.epoch,
      theirs.txid > position.txid
    {
      source.overtaken(theirs)
      return refuse(.notReady, "the follower has transactions that this primary lost")
    }
    let (plan, scope) = plan(for: join, at: position, history)
    isComparison = plan == .compare
    followerPages = FollowerPages(scope)
    servedEpoch = position.epoch
    let welcome = ShipWelcome(
      node: source.node, lineage: lineage + [source.node.id], plan: plan, scope: scope,
      position: position, history: history, pageSize: pageSize, pageCount: source.map.live.pageCount
    )
    let body = welcome.encode()
    let proven = nonces.map {
      ShipProof.wrap(body, secret: server.secret, role: .welcome, nonces: $0)
    }
    send(ShipMessage(.welcome, body: proven ?? body))
    sendHeartbeat()
    phase = .serving
    sender = ShipSender(
      plan: plan, followerAt: join.position.txid,
      consistentPagesMax: source.pages.consistentPagesMax)
    server.logger.info(
      "a follower joined", metadata: metadata(["position": "\(join.position)", "plan": "\(plan)"]))
    report()
    pump()
  }

  func plan(
    for join: ShipJoin, at position: Position, _ history: EpochHistory
  ) -> (ShipWelcome.Plan, FollowerPages.Scope) {
    switch join.want {
    case .copy: return (.copy, .all)
    case .compare: return (.compare, .all)
    case .follow:
      let theirs = join.position
      if theirs.epoch == position.epoch {
        let agrees = theirs.txid != position.txid || theirs.checksum == position.checksum
        return theirs.txid <= position.txid && agrees ? (.follow, .all) : (.compare, .all)
      }
      if history.contains(epoch: theirs.epoch, txid: theirs.txid), theirs.txid <= position.txid {
        return (.follow, .all)
      }
      guard let common = history.lastCommon(epoch: theirs.epoch, txid: theirs.txid) else {
        return (.compare, .all)
      }
      return (.compare, .since(common))
    }
  }

  func receiveChecksums(_ part: ShipPageChecksums) throws {
    try followerPages.add(part)
    guard part.isLast else { return }
    try sender?.checksumsReceived()
    pump()
  }

  func refuse(_ reason: ShipRefusal.Reason, _ message: String) {
    server.logger.warning("refused a follower", metadata: metadata(["reason": "\(message)"]))
    send(ShipMessage(.refuse, body: ShipRefusal(reason, message).encode()))
    outlet?.flush()
    close(ShipEnd(.closed, message))
  }
}
