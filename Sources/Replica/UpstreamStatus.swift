// What a replica knows of the node above, for its own decisions and for people.

import Serving
import Store
import WALShip

extension Upstream {
  struct Status: Sendable {
    var address = ""
    var state = "connecting"
    /// Monotonic time of the last message from upstream.
    var heardNanoseconds: UInt64?
    /// How old the upstream's own contact with the primary was then.
    var contactMilliseconds: UInt64 = 0
    var head = TXID.zero
    var behindSinceNanoseconds: UInt64?
    var progress: NodeStatus.CopyProgress?
    var lastError: String?
    var lineage: [DatabaseID] = []
    /// Something is being caught up with: this is no time to close the database.
    var isBusy = false

    /// The age of the last contact with the primary; nil before the first one.
    func contactMilliseconds(now: UInt64) -> UInt64? {
      guard let heardNanoseconds, contactMilliseconds < ShipHeartbeat.noContactMilliseconds else {
        return nil
      }
      return (now - min(now, heardNanoseconds)) / 1_000_000 + contactMilliseconds
    }
  }
}

extension Upstream.Status {
  /// The same for clients.
  ///
  /// - Parameter position: where this node stands.
  func report(_ position: Position, contactMilliseconds: UInt64?) -> NodeStatus.Upstream {
    var upstream = NodeStatus.Upstream(
      address: address, state: NodeStatus.Upstream.State(rawValue: state) ?? .catchingUp)
    let now = monotonicNanoseconds()
    upstream.lagTransactions = head.rawValue - min(head.rawValue, position.txid.rawValue)
    upstream.lagMilliseconds = behindSinceNanoseconds.map { (now - min(now, $0)) / 1_000_000 } ?? 0
    upstream.contactMilliseconds = contactMilliseconds
    upstream.progress = progress
    upstream.lastError = lastError
    return upstream
  }
}
