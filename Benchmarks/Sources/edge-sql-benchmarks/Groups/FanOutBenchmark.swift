// Many replicas of one primary: a transaction is encoded once for all, so what each of them adds is a send.

import Glibc

enum FanOutBenchmark {
  private static let writesPerSecond = 200.0
  private static let replicaCounts = [1, 8, 32]
  /// A tenth of a core for each 8 replicas, in percent of a core.
  private static let percentForEight = 10.0

  static func run(_ run: Run) async throws -> GroupReport {
    let primary = try NodeProcess.primary(run.programs, run.folder.makeTable())
    let load = try Load(
      port: primary.line, connections: 4, requests: WriteLines.updates(),
      expected: "\"changes\":1")
    var replicas: [NodeProcess] = []
    var used: [Series] = []
    var report = GroupReport(
      name: "fan-out", subject: "200 UPDATEs a second, and their replicas on the same cores")
    for count in replicaCounts {
      while replicas.count < count {
        replicas.append(
          try NodeProcess.replica(run.programs, of: primary.ship, run.folder.newPath()))
      }
      for replica in replicas { try replica.waitUntilEqual(to: primary) }
      var series = Series(name: "", unit: .percent)
      for _ in 0..<run.effort.rounds {
        let encoded = try primary.numbers("transactions").first ?? 0
        let before = primary.process.cpuSeconds
        let result = try load.run(
          depth: 16, seconds: max(1, run.effort.slice), perSecond: writesPerSecond)
        let seconds = Double(result.nanoseconds) / 1e9
        series.values.append((primary.process.cpuSeconds - before) / seconds * 100)
        let messages = (try primary.numbers("transactions").first ?? 0) - encoded
        guard messages <= result.answers else {
          throw Failure("\(messages) messages were encoded for \(result.answers) transactions")
        }
      }
      used.append(series)
      report.figures.append(Figure(name: "CPU of the primary, \(count) replicas", edge: series))
    }
    for (index, count) in replicaCounts.enumerated() where count >= 8 {
      let eights = Double(count) / 8
      let added = Series(
        name: "", unit: .percent,
        values: zip(used[index].values, used[0].values).map { ($0 - $1) / eights })
      report.figures.append(
        Figure(
          name: "added for each 8 of \(count)", edge: added, target: .atMost(percentForEight)))
    }
    replicas.removeAll()
    report.notes = [
      "percent of one core; transactions are encoded once, whatever follows: checked while it runs"
    ]
    return report
  }
}
