// What is counted while a node works, by the names of swift-metrics: a program that has a node
// inside sees it in whatever it collects its metrics with. `edge-sql` collects with
// `MetricsRegistry`.

import CoreMetrics
import Store

/// The meters of nodes. Safe to use from any thread.
public enum NodeMeters {
  /// How long requests took, with the wait for tokens and for the primary. Requests of HTTP end when
  /// their whole answer is on its way.
  static let lineRequests = requests("line")
  static let httpRequests = requests("http")
  static let webSocketRequests = requests("websocket")
  /// How long reads waited for their tokens.
  static let tokenWaits = Timer(label: "edge_sql_token_wait_seconds")
  /// Reads that did not reach their tokens in time.
  static let tokenTimeouts = Counter(label: "edge_sql_token_timeouts_total")
  private static let forwardedWrites = Counter(label: "edge_sql_forwarded_writes_total")
  private static let forwardedReads = Counter(label: "edge_sql_forwarded_reads_total")
  /// How long the primary took for what was sent to it, with the way there and back.
  private static let forwarding = Timer(label: "edge_sql_forwarded_seconds")

  private static func requests(_ name: String) -> Timer {
    Timer(label: "edge_sql_request_seconds", dimensions: [("protocol", name)])
  }

  /// A replica has sent a request to the primary, and has its answer.
  public static func noteForwarded(isWrite: Bool, nanoseconds: UInt64) {
    if isWrite { forwardedWrites.increment() } else { forwardedReads.increment() }
    forwarding.recordNanoseconds(Int64(clamping: nanoseconds))
  }
}

extension Timer {
  /// - Parameter start: by the monotonic clock, in nanoseconds.
  func record(since start: UInt64) {
    recordNanoseconds(Int64(clamping: monotonicNanoseconds() &- start))
  }
}
