// Turso's protocol over HTTP: the routes that its client libraries call.
// Source: https://github.com/tursodatabase/libsql/blob/main/docs/HRANA_3_SPEC.md

import NIOCore
import NIOHTTP1

/// The routes of Hrana.
enum HranaRoutes {
  static let routes: [HTTPRoute] = [
    hello("/v2", "Hello, this is HTTP API v2 (Hrana over HTTP)"),
    hello("/v3", "Hello, this is HTTP API v3 (Hrana over HTTP)"),
  ]

  private static func hello(_ path: String, _ text: String) -> HTTPRoute {
    HTTPRoute(.GET, path, minimum: nil, needsDatabase: false) { call in
      call.answer(.ok, type: "text/plain", ByteBuffer(string: text))
    }
  }
}
