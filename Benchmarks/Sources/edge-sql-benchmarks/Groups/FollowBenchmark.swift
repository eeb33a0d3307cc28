// Whether a replica keeps up with all that a primary can commit, and what its readers have left of the machine meanwhile.

import Glibc
import Store

enum FollowBenchmark {
  private static let writesPerSecond = 2000.0

  static func run(_ run: Run) async throws -> GroupReport {
    let path = run.folder.newPath()
    let primary = try NodeProcess.primary(run.programs, run.folder.makeTable())
    let replica = try NodeProcess.replica(run.programs, of: primary.ship, path)
    try replica.waitUntilEqual(to: primary)
    let updates = try Load(
      port: primary.line, connections: 16, requests: WriteLines.updates(), expected: "\"changes\":1"
    )
    let reads = try Load(
      port: replica.line, connections: 16, requests: ReadBenchmark.requests(),
      expected: "\"cols\"")
    let slice = run.effort.slice
    var sides = Alternation()
    let names: [(String, Unit)] = [
      ("committed", .perSecond), ("", .count), ("", .microseconds), ("", .microseconds),
      ("", .microseconds),
    ]
    let full = sides.add(names) {
      try follow(primary, replica, seconds: slice * 4) { body in
        try updates.during(depth: 16, server: primary.process, body).1
      }
    }
    let idle = sides.add([("the same, nothing applied", .perSecond), ("", .microseconds)]) {
      let result = try reads.run(seconds: slice, server: replica.process)
      return [result.perSecond, result.serverMicroseconds]
    }
    let applying = sides.add([("", .perSecond), ("", .microseconds)]) {
      let (result, _) = try updates.during(depth: 64, perSecond: writesPerSecond) {
        try reads.run(seconds: slice, server: replica.process)
      }
      try replica.waitUntilEqual(to: primary)
      return [result.perSecond, result.serverMicroseconds]
    }
    let measured = try await sides.run(rounds: run.effort.rounds)
    var report = GroupReport(
      name: "follow", subject: "one-row UPDATEs at the primary, and its replica, on the same cores")
    report.figures = [
      measured.figure("written, 16 connections × 16", full[0]),
      measured.figure("transactions behind, at the end", full[1]),
      measured.figure("equal again after", full[2]),
      measured.figure("CPU of the primary for each", full[3]),
      measured.figure(
        "CPU of the replica for each", full[4], over: full[3], reach: .ratioAtMost(1)),
      measured.figure(
        "reads at the replica, 2,000 applied a second", applying[0], over: idle[0],
        reach: .ratioAtLeast(0.7)),
    ]
    report.notes = [
      "a replica that needs no more CPU for a transaction than its primary keeps up on a machine like it"
    ]
    return report
  }

  /// - Returns: the rate, transactions behind at the end, microseconds until equal, and CPU for each on both sides.
  private static func follow(
    _ primary: NodeProcess, _ replica: NodeProcess, seconds: Double,
    _ load: (() throws -> Int) throws -> Load.Result
  ) throws -> [Double] {
    let replicaBefore = replica.process.cpuSeconds
    var behind = 0
    let result = try load {
      usleep(UInt32(seconds * 1e6))
      let applied = try replica.number("txid")
      behind = try primary.number("txid") - applied
      return behind
    }
    let end = MonotonicTime.nanoseconds
    try replica.waitUntilEqual(to: primary)
    let late = Double(MonotonicTime.nanoseconds - end) / 1000
    let replicaSeconds = replica.process.cpuSeconds - replicaBefore
    return [
      result.perSecond, Double(max(0, behind)), late, result.serverMicroseconds,
      replicaSeconds * 1e6 / Double(result.answers),
    ]
  }
}
