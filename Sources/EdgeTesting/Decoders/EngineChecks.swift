// Requests that a follower forwards, and the answers to them.

import NIOCore
import Serving
import Store
import WALShip

extension DecoderCheck {
  static let engineChecks = [
    DecoderCheck("engine-request", checkRequest),
    DecoderCheck("engine-response", checkResponse),
  ]

  private static func checkRequest(_ bytes: [UInt8]) throws {
    guard let request = try? EngineRequest(decoding: ByteBuffer(bytes: bytes)) else { return }
    try require(statements(of: request).count <= bytes.count, "more statements than bytes")
    if case .program(let program) = request.work {
      try require(program.steps.count <= StreamProgram.stepsMax, "more steps than may be")
      // What depends on others must find them, whatever it says.
      let outcomes = program.steps.map { step in
        step.condition?.holds(isAutocommit: true) { program.steps.indices.contains($0) }
      }
      try require(outcomes.count == program.steps.count, "conditions end")
    }
    if case .push(let push) = request.work {
      try require(push.numbers.count <= PagePush.pagesMax, "more pages than may be")
      try require(push.numbers == push.numbers.sorted(), "pages are in order")
      try require(
        push.content.readableBytes == push.numbers.count * PagePush.pageBytes, "pages are whole")
    }
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
    case .position, .abandon, .leave, .push: []
    case .program(let program):
      program.steps.compactMap { step in
        if case .execute(let statement, _) = step.action { statement } else { nil }
      }
    }
  }

  private static func checkResponse(_ bytes: [UInt8]) throws {
    guard let response = try? EngineResponse(decoding: ByteBuffer(bytes: bytes)) else { return }
    var rows = response.results.reduce(0) { $0 + $1.rows.count }
    for case .result(let result) in response.steps { rows += result.rows.count }
    try require(response.steps.count <= bytes.count, "more steps than bytes")
    try require(rows <= bytes.count, "\(rows) rows in \(bytes.count) bytes")
    let first = response.encode()
    guard let again = try? EngineResponse(decoding: first) else {
      throw TestFailure("an answer is refused when it comes back")
    }
    try require(again.encode() == first, "an answer comes back as another one")
  }
}
