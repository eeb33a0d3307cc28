// How a client leaves HTTP for Hrana on a WebSocket.
// Source: RFC 6455 section 4

import Crypto
import NIOCore
import NIOHTTP1

/// The subprotocols that are spoken. Without one it is the first.
enum HranaSubprotocol: String, CaseIterable, Sendable {
  case hrana1, hrana2, hrana3
}

/// A request for a WebSocket.
struct HranaHandshake {
  let target: HTTPTarget
  let subprotocol: HranaSubprotocol
  /// The headers of the answer; nil when the request is to be refused.
  let answer: HTTPHeaders?

  private static let magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  /// - Returns: nil for all other requests.
  init?(_ request: HTTPRequest) {
    let headers = request.headers
    guard request.method == .GET,
      Self.contains(headers[canonicalForm: "connection"], "upgrade"),
      Self.contains(headers[canonicalForm: "upgrade"], "websocket")
    else { return nil }
    target = HTTPTarget(request)
    let offered = headers[canonicalForm: "sec-websocket-protocol"].map(String.init)
    let known = offered.lazy.compactMap { HranaSubprotocol(rawValue: $0) }.first
    subprotocol = known ?? .hrana1
    guard target.path == "/", offered.isEmpty || known != nil,
      headers.first(name: "sec-websocket-version") == "13",
      let key = headers.first(name: "sec-websocket-key"), key.utf8.count == 24
    else {
      answer = nil
      return
    }
    var output = OutputBytes(capacity: 64)
    Array(Insecure.SHA1.hash(data: Array((key + Self.magic).utf8))).withUnsafeBytes {
      output.writeBase64($0)
    }
    var found: HTTPHeaders = [
      "Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Accept": output.string,
    ]
    if let known { found.add(name: "Sec-WebSocket-Protocol", value: known.rawValue) }
    answer = found
  }

  private static func contains(_ values: [Substring], _ word: String) -> Bool {
    values.contains { $0.lowercased() == word }
  }
}
