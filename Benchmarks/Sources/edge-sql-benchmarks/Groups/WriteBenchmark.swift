// Durable writes of many clients at once, and through a replica, beside one thread that commits with stock SQLite.

enum WriteBenchmark {
  /// The -wal of a primary under load has grown as far as it will (4 times --checkpoint-frames), and is written over.
  private static let warmUpCommits = 6000
  private static let forwardedMicroseconds = 300.0

  static func run(_ run: Run) async throws -> GroupReport {
    let effort = run.effort
    let primary = try NodeProcess.primary(run.programs, run.folder.makeTable(rows: 0))
    let replica = try NodeProcess.replica(
      run.programs, of: primary.ship, run.folder.newPath())
    let stock = try FloorDatabase(wal: run.folder.makeTable(rows: 0), synchronous: "FULL")
    // Both WALs have begun anew before the first round: an fsync of a file that grows takes longer.
    try stock.insert(count: warmUpCommits)
    _ = try Load(
      port: primary.line, connections: 1, requests: WriteLines.inserts(), expected: "\"changes\":1"
    )
    .run(requests: warmUpCommits)

    var sides = Alternation()
    let floor = sides.add("one thread's commits at FULL, C", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 20) { try stock.insert(count: 20) }
    }
    let commitName = "a commit at FULL, C"
    let commit = sides.add([(commitName, .microseconds), (commitName, .microseconds)]) {
      Timing.p50p99(try commitTimes(stock, effort))
    }
    let sixteen = try add(&sides, primary, primary, 16, effort)
    let many = try add(&sides, primary, primary, 256, effort)
    let one = try add(&sides, primary, primary, 1, effort)
    let forwarded = try add(&sides, replica, primary, 1, effort)
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "writes", subject: "INSERT of 100 random bytes, each acknowledged after its fsync")
    report.figures = [
      measured.figure("16 connections", sixteen.rate, over: floor, reach: .ratioAtLeast(3)),
      measured.figure("p50", sixteen.p50, over: commit[0]),
      measured.figure("p99", sixteen.p99, over: commit[0]),
      measured.figure("CPU for each", sixteen.cpu),
      measured.figure("256 connections", many.rate, over: floor),
      measured.figure("p99", many.p99, over: commit[0], reach: .ratioAtMost(20)),
      measured.figure("CPU for each", many.cpu),
      measured.figure("1 connection, p50", one.p50, over: commit[0]),
      measured.figure("1 connection, p99", one.p99, over: commit[1]),
      measured.figure(
        "through a replica, p50", forwarded.p50, over: commit[0],
        reach: .aboveFloorAtMost(forwardedMicroseconds)),
      measured.figure("through a replica, p99", forwarded.p99, over: commit[1]),
    ]
    report.notes = [
      "a replica follows on the same cores; through it: answered when that replica shows the row",
      "CPU: of the primary's process, for one write",
    ]
    return report
  }

  private static func add(
    _ sides: inout Alternation, _ node: NodeProcess, _ server: NodeProcess, _ connections: Int,
    _ effort: Effort
  ) throws -> ReadBenchmark.Keys {
    let load = try Load(
      port: node.line, connections: connections, requests: WriteLines.inserts(),
      expected: "\"changes\":1")
    let keys = sides.add(
      [("", .perSecond), ("", .microseconds), ("", .microseconds), ("", .microseconds)]
    ) {
      let result = try load.run(seconds: effort.slice, server: server.process)
      return [result.perSecond] + result.p50p99 + [result.serverMicroseconds]
    }
    return ReadBenchmark.Keys(rate: keys[0], p50: keys[1], p99: keys[2], cpu: keys[3])
  }

  private static func commitTimes(_ stock: FloorDatabase, _ effort: Effort) throws -> [UInt64] {
    var times: [UInt64] = []
    try Timing.until(effort.slice) { start in
      try stock.insert(count: 1)
      times.append(MonotonicTime.nanoseconds - start)
    }
    return times
  }
}
