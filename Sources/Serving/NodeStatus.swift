// How a node is doing: the answer of `.status`, on one line of JSON.
// Source: docs/PROTOCOL.md, the line protocol

import NIOCore
import Store
import WALShip

/// The state of a node at one moment.
public struct NodeStatus: Sendable {
  /// The node that this one follows.
  public struct Upstream: Sendable {
    public enum State: String, Sendable {
      /// `idle`: all is here, and the database rests above.
      case streaming, connecting, bootstrapping, idle
      case catchingUp = "catching up"
    }
    public var address: String
    public var state: State
    public var lagTransactions: UInt64?
    public var lagMilliseconds: UInt64?
    public var contactMilliseconds: UInt64?
    /// How far a copy is, while there is one.
    public var progress: CopyProgress?
    public var lastError: String?
    public init(address: String, state: State) {
      self.address = address
      self.state = state
    }
  }

  /// How much of a copy is here, in bytes of pages.
  public struct CopyProgress: Equatable, Sendable {
    public var receivedBytes: Int
    /// As far as was known when the copy began: more may come, of what changed meanwhile.
    public var expectedBytes: Int
    public init(receivedBytes: Int, expectedBytes: Int) {
      self.receivedBytes = receivedBytes
      self.expectedBytes = expectedBytes
    }

    /// From 0 to 1; nil when nothing is expected.
    public var fraction: Double? {
      expectedBytes > 0 ? min(1, Double(receivedBytes) / Double(expectedBytes)) : nil
    }
  }

  /// A node that follows this one.
  public struct Replica: Sendable {
    public var address: String
    public var name: String
    public var state: String
    public var txid: TXID
    public var lagTransactions: UInt64?
    public var lagMilliseconds: UInt64?
    public var contactMilliseconds: UInt64?
    public var bytesSent: UInt64
    public init(address: String, name: String, state: String, txid: TXID, bytesSent: UInt64) {
      self.address = address
      self.name = name
      self.state = state
      self.txid = txid
      self.bytesSent = bytesSent
    }
  }

  public struct Log: Sendable {
    public var frames: UInt64 = 0
    public var bytes: UInt64 = 0
    /// The -wal file on the disk, which keeps its length when the WAL begins anew.
    public var fileBytes: UInt64 = 0
    /// Frames that are in the database file already.
    public var backfilled: UInt64 = 0
    public init() {}
  }

  public struct Checkpoints: Sendable {
    public var count: UInt64 = 0
    public var lastMillisecondsAgo: UInt64?
    public var restarts: UInt64 = 0
    /// Frames above which commits wait a little for readers.
    public var limitFrames: UInt64 = 0
    /// For how long readers have kept a WAL above the limit from beginning anew; nil when none do.
    public var pinnedMilliseconds: UInt64?
    public var lastError: String?
    public init() {}
  }

  public struct Shipped: Sendable {
    public var transactions: UInt64 = 0
    public var pages: UInt64 = 0
    public var rawBytes: UInt64 = 0
    public var encodedBytes: UInt64 = 0
    public init() {}
  }

  public var role: NodeRole
  public var version: String
  public var name: String
  public var position: Position
  public var pageSize: Int = 0
  public var pageCount: UInt32 = 0
  public var uptimeMilliseconds: UInt64 = 0
  /// Where clients connect.
  public var listen: String
  /// Where clients connect that speak HTTP.
  public var http: String?
  /// Where replicas connect.
  public var ship: String?
  public var upstream: Upstream?
  public var replicas: [Replica] = []
  public var log = Log()
  public var checkpoints = Checkpoints()
  public var shipped = Shipped()
  public var scrub: ScrubStatus?
  /// Names of files that hold states which this node had to leave.
  public var diverged: [String] = []
  /// Why nothing is served from this node's file.
  public var damage: String?
  public var connections = 0
  public var sqliteVersion: String

  public init(
    role: NodeRole, version: String, name: String, position: Position, listen: String,
    sqliteVersion: String
  ) {
    self.role = role
    self.version = version
    self.name = name
    self.position = position
    self.listen = listen
    self.sqliteVersion = sqliteVersion
  }
}

extension NodeStatus {
  /// Writes the members of the answer, between `beginLine` and `endLine`.
  public func write(into writer: inout ResponseWriter) {
    writer.member("role", role.rawValue)
    writer.member("version", version)
    writer.member("database", position.database.description)
    writer.member("name", name)
    writer.member("position", position.description)
    writer.member("epoch", Int64(position.epoch.rawValue))
    writer.member("txid", Int64(clamping: position.txid.rawValue))
    writer.member("checksum", position.checksum.description)
    writer.token(position.token)
    writer.member("page_size", Int64(pageSize))
    writer.member("page_count", Int64(pageCount))
    writer.count("uptime_ms", uptimeMilliseconds)
    writer.member("listen", listen)
    writer.optional("http", http)
    writer.optional("ship", ship)
    writeUpstream(into: &writer)
    writer.beginArray("replicas")
    for replica in replicas { Self.write(replica, into: &writer) }
    writer.endArray()
    writeLog(into: &writer)
    writeScrub(into: &writer)
    writer.member("connections", Int64(connections))
    writer.member("sqlite_version", sqliteVersion)
  }

  private func writeUpstream(into writer: inout ResponseWriter) {
    guard let upstream else {
      writer.nullMember("upstream")
      return
    }
    writer.count("lag_txns", upstream.lagTransactions)
    writer.count("lag_ms", upstream.lagMilliseconds)
    writer.count("contact_ms", upstream.contactMilliseconds)
    writer.beginObject("upstream")
    writer.member("address", upstream.address)
    writer.member("state", upstream.state.rawValue)
    writer.count("lag_txns", upstream.lagTransactions)
    writer.count("lag_ms", upstream.lagMilliseconds)
    writer.count("contact_ms", upstream.contactMilliseconds)
    writer.fraction("progress", upstream.progress?.fraction)
    writer.count("received_bytes", upstream.progress.map { UInt64($0.receivedBytes) })
    writer.count("expected_bytes", upstream.progress.map { UInt64($0.expectedBytes) })
    writer.optional("last_error", upstream.lastError)
    writer.endObject()
  }

  private static func write(_ replica: Replica, into writer: inout ResponseWriter) {
    writer.beginElement()
    writer.member("address", replica.address)
    writer.member("name", replica.name)
    writer.member("state", replica.state)
    writer.count("txid", replica.txid.rawValue)
    writer.count("lag_txns", replica.lagTransactions)
    writer.count("lag_ms", replica.lagMilliseconds)
    writer.count("contact_ms", replica.contactMilliseconds)
    writer.count("bytes_sent", replica.bytesSent)
    writer.endObject()
  }

  private func writeLog(into writer: inout ResponseWriter) {
    writer.beginObject("wal")
    writer.count("frames", log.frames)
    writer.count("bytes", log.bytes)
    writer.count("file_bytes", log.fileBytes)
    writer.count("backfilled", log.backfilled)
    writer.endObject()
    writer.beginObject("checkpoints")
    writer.count("count", checkpoints.count)
    writer.count("last_ms_ago", checkpoints.lastMillisecondsAgo)
    writer.count("restarts", checkpoints.restarts)
    writer.count("limit_frames", checkpoints.limitFrames)
    writer.count("pinned_ms", checkpoints.pinnedMilliseconds)
    writer.optional("last_error", checkpoints.lastError)
    writer.endObject()
    writer.beginObject("shipped")
    writer.count("transactions", shipped.transactions)
    writer.count("pages", shipped.pages)
    writer.count("raw_bytes", shipped.rawBytes)
    writer.count("encoded_bytes", shipped.encodedBytes)
    writer.endObject()
  }
}

extension NodeStatus {
  private func writeScrub(into writer: inout ResponseWriter) {
    writer.optional("damage", damage)
    writer.beginArray("diverged")
    for name in diverged { writer.element(name) }
    writer.endArray()
    guard let scrub else { return writer.nullMember("scrub") }
    let now = monotonicNanoseconds()
    writer.beginObject("scrub")
    writer.member("running", scrub.isRunning)
    writer.count("pages_done", UInt64(scrub.pagesDone))
    writer.count("pages_total", UInt64(scrub.pagesTotal))
    writer.count("passes", scrub.passes)
    writer.count(
      "finished_ms_ago", scrub.finishedNanoseconds.map { (now - min(now, $0)) / 1_000_000 })
    writer.count("damaged", scrub.damaged)
    writer.count("repaired", scrub.repaired)
    writer.count("mended", scrub.mended)
    writer.optional("last_error", scrub.lastError)
    writer.endObject()
  }
}

extension ResponseWriter {
  fileprivate mutating func count(_ name: StaticString, _ count: UInt64?) {
    if let count { member(name, Int64(clamping: count)) } else { nullMember(name) }
  }

  fileprivate mutating func optional(_ name: StaticString, _ text: String?) {
    if let text { member(name, text) } else { nullMember(name) }
  }

  fileprivate mutating func fraction(_ name: StaticString, _ value: Double?) {
    guard let value, value.isFinite else { return nullMember(name) }
    var output = OutputBytes(capacity: 64)
    output.append("\"\(name)\":")
    output.writeJSONNumber(value)
    columns(encoded: output.take())
  }
}
