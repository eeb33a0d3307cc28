// What a small change costs on the wire.

import WALShip

enum WireBenchmark {
  /// The bytes that the statement changes: what must travel at least.
  private static let changedBytes = 100.0
  /// What ships a frame of the WAL as it is sends: 24 bytes of header and the page.
  private static let frameBytes = 4120.0

  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    try await NodePair.with(folder) { try await measure(effort, $0) }
  }

  private static func measure(_ effort: Effort, _ pair: NodePair) async throws -> GroupReport {
    let client = try pair.primaryClient()
    let count = effort.scaled(500)
    var random = SeededGenerator(seed: 11)
    var sides = Alternation()
    let shipped = sides.add([("a transaction's message", .bytes), ("all that is sent", .bytes)]) {
      let before = (encoded: pair.primary.status.shipped, sent: try pair.bytesSent())
      for _ in 0..<count { _ = try client.run(NodePair.updateLine(&random)) }
      try pair.waitUntilEqual()
      let encoded = pair.primary.status.shipped
      let transactions = Double(encoded.transactions - before.encoded.transactions)
      return [
        Double(encoded.encodedBytes - before.encoded.encodedBytes) / transactions,
        Double(try pair.bytesSent() - before.sent) / transactions,
      ]
    }
    let changed = sides.add("the bytes that changed", .bytes) { changedBytes }
    let frame = sides.add("a frame of the WAL", .bytes) { frameBytes }
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "wire", subject: "UPDATE of 100 random bytes in one row of 100,000, one at a time")
    report.figures = [
      measured.figure("message of one transaction", shipped[0], over: changed),
      measured.figure("message of one transaction", shipped[0], over: frame),
      measured.figure("sent to a replica, all included", shipped[1], over: changed),
    ]
    return report
  }
}
