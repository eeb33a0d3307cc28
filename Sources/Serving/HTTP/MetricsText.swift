// The figures of a node in the text format of Prometheus, made when they are asked for.
// Source: https://prometheus.io/docs/instrumenting/exposition_formats/

import Store
import WALShip

/// Collects figures. Each has a name, a sentence and a type, and perhaps labels.
struct MetricsText {
  static let type = "text/plain; version=0.0.4; charset=utf-8"

  enum Kind: String { case counter, gauge, histogram }

  /// What the meters of `NodeMeters` are.
  private static let help = [
    "edge_sql_request_seconds": "How long requests took, by protocol.",
    "edge_sql_token_wait_seconds": "How long reads waited for their tokens.",
    "edge_sql_token_timeouts_total": "Reads whose tokens were not reached in time.",
    "edge_sql_forwarded_writes_total": "Writes that were sent to the primary.",
    "edge_sql_forwarded_reads_total": "Reads that were sent to the primary.",
    "edge_sql_forwarded_seconds": "How long the primary took for what was sent to it.",
  ]

  private(set) var text = ""
  private var last = ""

  /// - Parameter labels: names and values; values may be any text.
  mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ value: Double?,
    labels: [(String, String)] = []
  ) {
    guard let value else { return }
    if last != name {
      text += "# HELP edge_sql_\(name) \(help)\n# TYPE edge_sql_\(name) \(kind.rawValue)\n"
      last = name
    }
    let list = Self.labels(labels)
    text += "edge_sql_\(name)\(list.isEmpty ? "" : "{\(list)}") \(Self.number(value))\n"
  }

  /// Labels as they are written between braces.
  static func labels(_ labels: [(String, String)]) -> String {
    labels.map { "\($0.0)=\"\(escape($0.1))\"" }.joined(separator: ",")
  }

  /// A meter of swift-metrics, by its whole name.
  mutating func add(meter name: String, _ labels: String, _ kind: Kind, _ value: Double) {
    head(name, kind)
    text += "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(Self.number(value))\n"
  }

  /// - Parameters:
  ///   - ends: the upper ends of all buckets but the last, which has none.
  ///   - counts: how much is in each bucket.
  mutating func add(
    histogram name: String, _ labels: String, ends: [Double], counts: [UInt64], sum: Double
  ) {
    head(name, .histogram)
    let more = labels.isEmpty ? "" : "\(labels),"
    var total: UInt64 = 0
    for (end, count) in zip(ends, counts) {
      total += count
      text += "\(name)_bucket{\(more)le=\"\(Self.number(end))\"} \(total)\n"
    }
    total += counts.last ?? 0
    text += "\(name)_bucket{\(more)le=\"+Inf\"} \(total)\n"
    let list = labels.isEmpty ? "" : "{\(labels)}"
    text += "\(name)_sum\(list) \(Self.number(sum))\n\(name)_count\(list) \(total)\n"
  }

  private mutating func head(_ name: String, _ kind: Kind) {
    guard last != name else { return }
    last = name
    let help = Self.help[name] ?? name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }

  private static func number(_ value: Double) -> String {
    let isWhole = value == value.rounded() && abs(value) < 1e15
    return isWhole ? "\(Int64(value))" : "\(value)"
  }

  private mutating func count(_ name: String, _ help: String, _ value: UInt64?) {
    add(name, .counter, help, value.map { Double($0) })
  }

  private mutating func gauge(_ name: String, _ help: String, _ value: UInt64?) {
    add(name, .gauge, help, value.map { Double($0) })
  }

  private mutating func seconds(_ name: String, _ help: String, _ milliseconds: UInt64?) {
    add(name, .gauge, help, milliseconds.map { Double($0) / 1000 })
  }

  private static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text {
      switch character {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.append(character)
      }
    }
    return escaped
  }

  // MARK: A node

  mutating func add(_ status: NodeStatus) {
    add(
      "info", .gauge, "What runs here.", 1,
      labels: [
        ("role", status.role.rawValue), ("version", status.version),
        ("sqlite", status.sqliteVersion), ("name", status.name),
      ])
    seconds("uptime_seconds", "Time since the start.", status.uptimeMilliseconds)
    gauge("epoch", "The line of history.", UInt64(status.position.epoch.rawValue))
    count(
      "transactions_total", "Transactions up to the present state.", status.position.txid.rawValue)
    gauge(
      "database_bytes", "Size of the database.",
      UInt64(status.pageCount) * UInt64(max(0, status.pageSize)))
    gauge("connections", "Clients that are connected.", UInt64(max(0, status.connections)))
    gauge(
      "damaged", "1 while pages of the file are known to be damaged.", status.damage == nil ? 0 : 1)
    addLog(status)
    addTraffic(status)
    addUpstream(status.upstream)
    addReplicas(status.replicas)
  }

  private mutating func addLog(_ status: NodeStatus) {
    gauge("wal_frames", "Frames in the WAL.", status.log.frames)
    gauge("wal_file_bytes", "Size of the -wal file.", status.log.fileBytes)
    gauge(
      "wal_copied_frames", "Frames that are in the database file already.", status.log.backfilled)
    count("checkpoints_total", "Times that the WAL was copied.", status.checkpoints.count)
    count("wal_restarts_total", "Times that the WAL began anew.", status.checkpoints.restarts)
    seconds(
      "wal_pinned_seconds", "For how long readers have kept a long WAL from beginning anew.",
      status.checkpoints.pinnedMilliseconds ?? 0)
    guard let scrub = status.scrub else { return }
    count("scrub_passes_total", "Times that all pages were read.", scrub.passes)
    count("scrub_damaged_total", "Damaged pages that were found.", scrub.damaged)
    count("scrub_repaired_total", "Pages that were repaired.", scrub.repaired)
    gauge("scrub_pages_done", "Pages that the present pass has read.", UInt64(scrub.pagesDone))
  }

  private mutating func addTraffic(_ status: NodeStatus) {
    count(
      "shipped_transactions_total", "Transactions made ready for replicas.",
      status.shipped.transactions)
    count("shipped_pages_total", "Pages in them.", status.shipped.pages)
    count("shipped_raw_bytes_total", "Bytes of those pages.", status.shipped.rawBytes)
    count("shipped_encoded_bytes_total", "The same as they are sent.", status.shipped.encodedBytes)
  }

  private mutating func addUpstream(_ upstream: NodeStatus.Upstream?) {
    guard let upstream else { return }
    gauge(
      "upstream_connected", "1 while the upstream is followed.",
      upstream.state == .connecting ? 0 : 1)
    gauge(
      "lag_transactions", "Transactions that the upstream has and this node has not.",
      upstream.lagTransactions)
    seconds("lag_seconds", "For how long this node has been behind.", upstream.lagMilliseconds)
    seconds(
      "contact_age_seconds", "Age of the last contact with the primary.",
      upstream.contactMilliseconds)
  }

  private mutating func addReplicas(_ replicas: [NodeStatus.Replica]) {
    gauge("replicas", "Nodes that follow this one.", UInt64(replicas.count))
    func each(
      _ name: String, _ kind: Kind, _ help: String, _ value: (NodeStatus.Replica) -> Double?
    ) -> [(String, Kind, String, Double?, [(String, String)])] {
      replicas.map {
        (name, kind, help, value($0), [("replica", $0.name), ("address", $0.address)])
      }
    }
    let figures =
      each("replica_lag_transactions", .gauge, "Transactions that a replica lacks.") {
        $0.lagTransactions.map { Double($0) }
      }
      + each("replica_lag_seconds", .gauge, "For how long a replica has been behind.") {
        $0.lagMilliseconds.map { Double($0) / 1000 }
      }
      + each("replica_sent_bytes_total", .counter, "Bytes that were sent to a replica.") {
        Double($0.bytesSent)
      }
    for (name, kind, help, value, labels) in figures {
      add(name, kind, help, value, labels: labels)
    }
  }
}
