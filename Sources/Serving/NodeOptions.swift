// What both roles are configured with.

import Logging
import Store
import WALShip

/// An address to listen on or to connect to.
public struct NodeAddress: Hashable, Sendable, CustomStringConvertible {
  public var host: String
  /// 0 lets the system choose.
  public var port: Int
  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }
  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The settings that a primary and a replica share.
public struct NodeOptions: Sendable {
  /// Where clients connect; nil for no listener.
  public var listen: NodeAddress?
  /// Where clients connect that speak HTTP; nil for no listener.
  public var http: NodeAddress?
  /// Where followers connect; nil for no listener.
  public var ship: NodeAddress?
  /// What this node calls itself in logs and in its neighbours' status.
  public var name = ""
  /// The secret that nodes share; nil when they need none.
  public var secret: ShipSecret?
  /// Checks the credentials of clients; nil when none are asked for.
  public var verifier: (any CredentialVerifier)?
  /// TLS where clients connect; nil for plain text.
  public var transport: (any TransportSecurity)?
  /// TLS between nodes, for followers and for the way to the upstream; nil for plain text.
  public var shipTransport: (any TransportSecurity)?
  public var limits = ServingLimits()
  /// Frames in the WAL from which on it is copied into the file.
  public var checkpointFrames: UInt32 = 1000
  public var scrub = ScrubOptions()
  public var logger = Logger(label: "edge-sql")

  public init() {}
}

/// This release.
public enum SoftwareVersion {
  public static let current = "0.1.0"
}

extension NodeIdentity {
  /// A new identity for a node that starts.
  public static func starting(name: String) -> NodeIdentity {
    NodeIdentity(
      id: DatabaseID.random(), name: name,
      software: SoftwareVersion.current, sqlite: SQLiteLibrary.version)
  }
}

extension NodeStatus {
  /// Adds what a ship server knows of its followers.
  public mutating func add(_ server: ShipServer?, head: TXID) {
    guard let server else { return }
    let now = monotonicNanoseconds()
    replicas = server.followers.map { follower in
      var replica = Replica(
        address: follower.address, name: follower.name, state: follower.state,
        txid: follower.txid, bytesSent: follower.bytesSent)
      replica.lagTransactions = head.rawValue - min(head.rawValue, follower.txid.rawValue)
      replica.lagMilliseconds =
        follower.behindSinceNanoseconds.map { (now - min(now, $0)) / 1_000_000 } ?? 0
      replica.contactMilliseconds = (now - min(now, follower.heardNanoseconds)) / 1_000_000
      return replica
    }
  }

  /// Adds what a ring has counted.
  public mutating func add(_ ring: TransactionRing) {
    let totals = ring.statistics
    shipped.transactions = UInt64(totals.transactions)
    shipped.pages = UInt64(totals.pages)
    shipped.rawBytes = UInt64(totals.rawBytes)
    shipped.encodedBytes = UInt64(totals.encodedBytes)
  }

  /// Adds how long the WAL is.
  public mutating func add(_ watch: LogWatch, pageSize: Int) {
    log.frames = UInt64(watch.frames)
    log.backfilled = UInt64(min(watch.copiedFrames, watch.frames))
    log.bytes = log.frames == 0 ? 0 : 32 + log.frames * UInt64(pageSize + FrameHeader.byteCount)
    log.fileBytes = UInt64(watch.fileBytes)
  }
}
