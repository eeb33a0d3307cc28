// Routes for people and programs that look after a node.

import NIOCore
import NIOHTTP1
import Store
import WALShip

enum OperationRoutes {
  static let all: [HTTPRoute] = [
    HTTPRoute(.GET, "/version", needs: nil) { call in
      call.answer(
        .ok, text: "edge-sql \(SoftwareVersion.current) (SQLite \(SQLiteLibrary.version))\n")
    },
    HTTPRoute(.GET, "/health", needs: nil) { health($0) },
    HTTPRoute(.GET, "/status", needs: .admin) { status($0) },
    HTTPRoute(.GET, "/metrics", needs: .admin) { call in
      var text = MetricsText()
      text.add(call.node.status())
      MetricsRegistry.shared.write(into: &text)
      call.answer(.ok, type: MetricsText.type, ByteBuffer(string: text.text))
    },
    HTTPRoute(.GET, "/dump", needs: .read) { DatabaseDump.answer($0) },
  ]

  /// 200 while the node can answer reads: `?max_lag_ms=N` also asks that its last contact with the
  /// primary is at most so old.
  private static func health(_ call: HTTPCall) {
    guard let lease = call.lease else { return call.answer(.ok, json: "{\"status\":\"ok\"}\n") }
    let status = lease.node.status()
    let contact = lease.node.contactMilliseconds()
    var problem = status.damage
    if let most = call.queryInteger("max_lag_ms"), contact.map({ $0 > most }) ?? true {
      problem = problem ?? "the last contact with the primary is too old"
    }
    var writer = ResponseWriter()
    writer.beginLine()
    writer.member("status", problem == nil ? "ok" : "failing")
    if let problem { writer.member("problem", problem) }
    writer.member("role", status.role.rawValue)
    if let contact { writer.member("contact_ms", Int64(clamping: contact)) }
    writer.endLine()
    call.answer(
      problem == nil ? .ok : .serviceUnavailable, type: HTTPType.json, writer.take())
  }

  private static func status(_ call: HTTPCall) {
    var writer = ResponseWriter()
    writer.beginLine()
    call.node.status().write(into: &writer)
    writer.endLine()
    call.answer(.ok, type: HTTPType.json, writer.take())
  }
}

extension HTTPCall {
  /// A number in the query.
  func queryInteger(_ name: String) -> UInt64? {
    for pair in (query ?? "").split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1)
      if parts.count == 2, parts[0] == name { return UInt64(parts[1]) }
    }
    return nil
  }
}
