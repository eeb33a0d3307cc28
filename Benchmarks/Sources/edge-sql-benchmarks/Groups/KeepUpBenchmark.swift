// A replica beside a primary whose commits come from another program at NORMAL: as fast as SQLite commits at all.

import Glibc
import Store

enum KeepUpBenchmark {
  /// The lag that the last third of the time may add to that of the first.
  private static let growthMax = 1.5

  static func run(_ run: Run) async throws -> GroupReport {
    let path = run.folder.newPath()
    let table = try run.folder.makeTable()
    let primary = try NodeProcess.primary(run.programs, table)
    let replica = try NodeProcess.replica(run.programs, of: primary.ship, path)
    try replica.waitUntilEqual(to: primary)
    let foreign = try FloorDatabase(table)
    try foreign.execute(
      "PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=10000; PRAGMA wal_autocheckpoint=0")
    let alone = try FloorDatabase(wal: run.folder.makeTable(), synchronous: "NORMAL")
    let seconds = run.effort.slice * 5
    var sides = Alternation()
    let floor = sides.add("stock SQLite at NORMAL, nobody follows", .perSecond) {
      try Timing.callsPerSecond(seconds: run.effort.slice, calls: 200) {
        try alone.update(count: 200)
      }
    }
    let names: [(String, Unit)] = [
      ("written", .perSecond), ("applied", .perSecond), ("behind, first third", .count),
      ("behind, last third", .count), ("", .microseconds), ("", .microseconds), ("", .microseconds),
    ]
    let followed = sides.add(names) {
      try follow(primary, replica, foreign, seconds: seconds)
    }
    let measured = try await sides.run(rounds: run.effort.rounds)
    var report = GroupReport(
      name: "keep-up", subject: "one-row UPDATEs of another program at NORMAL, captured and applied"
    )
    report.figures = [
      measured.figure("committed by the other program", followed[0], over: floor),
      measured.figure(
        "applied at the replica", followed[1], over: followed[0], reach: .ratioAtLeast(0.95)),
      measured.figure(
        "transactions behind, last third", followed[3], over: followed[2],
        reach: .ratioAtMost(growthMax)),
      measured.figure("equal again after", followed[4]),
      measured.figure("CPU of the primary for each", followed[5]),
      measured.figure("CPU of the replica for each", followed[6]),
    ]
    report.notes = ["writer, primary and replica share the cores"]
    return report
  }

  private static func follow(
    _ primary: NodeProcess, _ replica: NodeProcess, _ foreign: FloorDatabase, seconds: Double
  ) throws -> [Double] {
    let cpu = [primary.process.cpuSeconds, replica.process.cpuSeconds]
    let first = try replica.number("txid")
    // Ends with the time, and not with a number: nobody knows how fast it will be.
    nonisolated(unsafe) let database = foreign  // Safe: the thread's alone until it has ended.
    let writer = BackgroundRun {
      try Timing.callsPerSecond(seconds: seconds, calls: 50) { try database.update(count: 50) }
    }
    var behind: [Int] = []
    let start = MonotonicTime.seconds
    while MonotonicTime.seconds - start < seconds {
      usleep(20_000)
      let applied = try replica.number("txid")
      behind.append(try primary.number("txid") - applied)
    }
    let applied = Double(try replica.number("txid") - first)
    let elapsed = MonotonicTime.seconds - start
    let rate = try writer.wait()
    let end = MonotonicTime.nanoseconds
    try replica.waitUntilEqual(to: primary)
    let late = Double(MonotonicTime.nanoseconds - end) / 1000
    let used = [primary.process.cpuSeconds - cpu[0], replica.process.cpuSeconds - cpu[1]]
    let third = max(1, behind.count / 3)
    let mean = { (values: ArraySlice<Int>) in
      1 + Double(values.reduce(0, +)) / Double(max(1, values.count))
    }
    let written = rate * seconds
    return [
      rate, applied / elapsed, mean(behind.prefix(third)), mean(behind.suffix(third)), late,
      used[0] * 1e6 / written, used[1] * 1e6 / written,
    ]
  }
}
