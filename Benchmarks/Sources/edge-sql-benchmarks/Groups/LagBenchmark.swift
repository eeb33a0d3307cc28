// From the acknowledgement of a write at the primary until a replica answers a read with it.

import Store

enum LagBenchmark {
  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    let echo = try await EchoServer()
    let report = try await NodePair.with(folder) { try await measure(effort, $0, echo) }
    try await echo.stop()
    return report
  }

  private static func measure(
    _ effort: Effort, _ pair: NodePair, _ echo: EchoServer
  ) async throws -> GroupReport {
    let writer = try pair.primaryClient(), reader = try pair.replicaClient()
    let echoes = try ClientSocket(port: echo.port)
    var random = SeededGenerator(seed: 10)
    var sides = Alternation()
    let lag = sides.add([("visible at the replica", .microseconds), ("", .microseconds)]) {
      Timing.p50p99(
        try samples(effort) { try visible(writer, reader, NodePair.updateLine(&random)) })
    }
    let read = sides.add([("read at the replica", .microseconds), ("", .microseconds)]) {
      Timing.p50p99(
        try samples(effort) {
          let start = monotonicNanoseconds()
          _ = try reader.run("[\"SELECT name FROM t WHERE id = ?\",7]")
          return monotonicNanoseconds() - start
        })
    }
    let floor = sides.add([("TCP echo", .microseconds), ("TCP echo", .microseconds)]) {
      let line = String(repeating: "e", count: 60)
      return Timing.p50p99(
        try samples(effort) {
          let start = monotonicNanoseconds()
          _ = try echoes.run(line)
          return monotonicNanoseconds() - start
        })
    }
    let measured = try await sides.run(rounds: effort.rounds)
    try pair.waitUntilEqual()
    var report = GroupReport(
      name: "lag",
      subject: "commit acknowledged → read with its token answered; one write at a time")
    report.figures = [
      measured.figure("lag, p50", lag[0], over: floor[0]),
      measured.figure("lag, p99", lag[1], over: floor[1]),
      measured.figure("a read without token, p50", read[0], over: floor[0]),
    ]
    report.notes = [
      "lag holds one round trip to the replica; nothing keeps the cores awake, so each wake-up of an idle one counts"
    ]
    return report
  }

  private static func samples(
    _ effort: Effort, _ sample: () throws -> UInt64
  ) throws -> [UInt64] {
    var times: [UInt64] = []
    let end = monotonicNanoseconds() + UInt64(effort.slice * 1e9)
    while monotonicNanoseconds() < end { times.append(try sample()) }
    return times
  }

  private static func visible(
    _ writer: ClientSocket, _ reader: ClientSocket, _ line: String
  ) throws -> UInt64 {
    let answer = try writer.run(line)
    let start = monotonicNanoseconds()
    guard let token = answer.split(separator: "\"token\":\"").last?.split(separator: "\"").first
    else {
      throw Failure("an answer without a token: \(answer)")
    }
    let read = try reader.run(
      "{\"sql\":\"SELECT name FROM t WHERE id = 7\",\"token\":\"\(token)\",\"wait_ms\":5000,\"on_lag\":\"error\"}"
    )
    guard read.hasPrefix("{\"cols\"") else { throw Failure(read) }
    return monotonicNanoseconds() - start
  }
}
