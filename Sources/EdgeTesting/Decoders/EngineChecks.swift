// Requests that a follower forwards, and the answers to them.

import NIOCore
import Serving
import WALShip

extension DecoderCheck {
  static let engineChecks = [
    DecoderCheck("engine-request", checkRequest),
    DecoderCheck("engine-response", checkResponse),
  ]

  private static func checkRequest(_ bytes: [UInt8]) throws {
    guard let request = try? EngineRequest(decoding: ByteBuffer(bytes: bytes)) else { return }
    try require(statements(of: request).count <= bytes.count, "more statements than bytes")
    let first = request.encode()
    // Numbers that are none are not equal to themselves: bytes are compared.
    guard let again = try? EngineRequest(decoding: first) else {
      throw TestFailure("a request is refused when it comes back")
    }
    try require(again.encode() == first, "a request comes back as another one")
  }

  private static func statements(of request: EngineRequest) -> [StatementRequest] {
    switch request.work {
    case .write(let statements), .read(let statements), .begin(_, let statements),
      .proceed(_, let statements):
      statements
    case .position, .abandon: []
    }
  }

  private static func checkResponse(_ bytes: [UInt8]) throws {
    guard let response = try? EngineResponse(decoding: ByteBuffer(bytes: bytes)) else { return }
    let rows = response.results.reduce(0) { $0 + $1.rows.count }
    try require(rows <= bytes.count, "\(rows) rows in \(bytes.count) bytes")
    let first = response.encode()
    guard let again = try? EngineResponse(decoding: first) else {
      throw TestFailure("an answer is refused when it comes back")
    }
    try require(again.encode() == first, "an answer comes back as another one")
  }
}
