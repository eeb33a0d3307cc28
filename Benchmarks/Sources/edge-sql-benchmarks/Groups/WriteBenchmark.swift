// Durable writes of many clients at once, beside one thread that commits with stock SQLite.

import Primary
import Store

enum WriteBenchmark {
  private static let connections = 16
  /// More than the frames after which SQLite and the primary copy the WAL into the file.
  private static let warmUpCommits = 2500

  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    let primary = try await Nodes.primary(folder.makeTable(rows: 0))
    do {
      let report = try await measure(effort, folder, primary)
      await primary.stop()
      return report
    } catch {
      await primary.stop()
      throw error
    }
  }

  private static func measure(
    _ effort: Effort, _ folder: WorkFolder, _ primary: PrimaryService
  ) async throws -> GroupReport {
    let stock = try FloorDatabase(wal: folder.makeTable(rows: 0), synchronous: "FULL")
    var random = SeededGenerator(seed: 9)
    let tapes = (0..<connections).map { _ in
      RequestTape(lines: 512) { _ in
        let text = (0..<100).map { _ in
          String(UnicodeScalar(UInt8.random(in: 97...122, using: &random)))
        }.joined()
        return "[\"INSERT INTO t(v) VALUES (?)\",\"\(text)\"]"
      }
    }
    let many = try LoadClient(
      port: primary.listenAddress?.port ?? 0, expected: "{\"changes\":1", tapes: tapes)
    let one = try LoadClient(
      port: primary.listenAddress?.port ?? 0, expected: "{\"changes\":1", tapes: [tapes[0]])
    // Both WALs have begun anew before the first round: an fsync of a file that grows takes longer.
    try stock.insert(count: warmUpCommits)
    _ = try one.run(until: .requests(warmUpCommits), inFlight: 1)

    var sides = Alternation()
    let floor = sides.add("commits through C at FULL", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 20) { try stock.insert(count: 20) }
    }
    let commit = sides.add(
      [
        ("a commit through C at FULL", .microseconds),
        ("a commit through C at FULL", .microseconds),
      ]
    ) {
      Timing.p50p99(try commitTimes(stock, effort))
    }
    let grouped = sides.add(
      [("line protocol", .perSecond), ("", .microseconds), ("", .microseconds)]
    ) {
      let load = try many.run(until: .seconds(effort.slice), inFlight: 1)
      return [load.perSecond] + Timing.p50p99(load.times)
    }
    let single = sides.add([("line protocol", .microseconds), ("", .microseconds)]) {
      Timing.p50p99(try one.run(until: .seconds(effort.slice), inFlight: 1).times)
    }
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "writes", subject: "INSERT of 100 bytes, each acknowledged after its fsync")
    report.figures = [
      measured.figure("16 connections, one at a time", grouped[0], over: floor),
      measured.figure("the same, p50", grouped[1], over: commit[0]),
      measured.figure("the same, p99", grouped[2], over: commit[1]),
      measured.figure("1 connection, p50", single[0], over: commit[0]),
      measured.figure("1 connection, p99", single[1], over: commit[1]),
    ]
    return report
  }

  private static func commitTimes(_ stock: FloorDatabase, _ effort: Effort) throws -> [UInt64] {
    var times: [UInt64] = []
    let end = monotonicNanoseconds() + UInt64(effort.slice * 1e9)
    var start = monotonicNanoseconds()
    while start < end {
      try stock.insert(count: 1)
      let now = monotonicNanoseconds()
      times.append(now - start)
      start = now
    }
    return times
  }
}
