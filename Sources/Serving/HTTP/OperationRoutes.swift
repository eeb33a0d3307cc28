// What those who run a node ask it: is it alive, what is it, how is it doing.

import NIOCore
import NIOHTTP1

/// The routes of operation.
enum OperationRoutes {
  static let routes: [HTTPRoute] = [
    HTTPRoute(.GET, "/health", minimum: nil, needsDatabase: false) { $0.answer(.ok) },
    HTTPRoute(.GET, "/version", minimum: nil, needsDatabase: false) { call in
      call.answer(
        .ok, type: "text/plain", ByteBuffer(string: "edge-sql \(SoftwareVersion.current)"))
    },
    HTTPRoute(.GET, "/status", minimum: .admin) { call in
      var writer = ResponseWriter()
      writer.beginLine()
      call.node.status().write(into: &writer)
      writer.endLine()
      call.answer(.ok, type: "application/json", writer.take())
    },
  ]
}
