// Hours of mixed load with faults all along: what leaks, grows or comes apart slowly. `make soak
// MINUTES=60` runs it; EDGE_SQL_SOAK_MINUTES says for how long.
//
// In the first third every node but one is killed and stopped, later the primary lives on as well:
// its memory, and that of the replica that nobody kills, are then compared with the end.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct SoakTests {
    private static let minutes =
      getenv("EDGE_SQL_SOAK_MINUTES").flatMap { Double(String(cString: $0)) } ?? 0
    /// The replica that is never killed.
    private static let spared = 2
    /// Frames of a WAL that no reader keeps, in units of `--checkpoint-frames`.
    private static let framesMax = 300 * 4

    private struct Figures {
      var memoryBytes: Int
      var openFiles: Int

      init(_ node: NodeProcess) {
        memoryBytes = node.memoryBytes("RssAnon")
        openFiles = node.openFiles
      }
    }

    @Test(.enabled(if: SoakTests.minutes > 0, "EDGE_SQL_SOAK_MINUTES is not set"))
    func soak() throws {
      var random = SeededGenerator(seed: .random(in: 0...UInt64(Int64.max)))
      print("seed \(random.seed): EDGE_SQL_SEED=\(random.seed) repeats these faults")
      let cluster = try SoakCluster.make()
      let watch = PositionWatch(ports: cluster.replicas.map(\.listenPort))
      let schedule = FaultSchedule(cluster: cluster, mortal: [0, 1, 3], random: &random)
      let load = WorkloadSet(ports: cluster.ports, random: &random, pauseSeconds: 0.02)
      let began = Deadline.now()
      let end = Deadline.seconds(Self.minutes * 60)
      let warm = Deadline.seconds(Self.minutes * 60 / 2)
      let sparing = Deadline.seconds(Self.minutes * 60 / 3)
      let survivors = [cluster.primary, cluster.nodes[Self.spared]]
      var before: [Figures]?
      var minute = 0
      while !end.isOver {
        try schedule.next()
        try load.progress(1)
        elapse(seconds: .random(in: 0..<1, using: &random))
        if sparing.isOver { schedule.mortal = [1, 3] }
        if warm.isOver, before == nil {
          try quieten(cluster, schedule)
          before = survivors.map(Figures.init)
        }
        let minutes = Int((Deadline.now() - began) / 60_000_000_000)
        if minutes > minute {
          minute = minutes
          print("minute \(minute): \(try line(cluster, load, schedule))")
        }
      }
      try load.progress(3)
      try quieten(cluster, schedule)
      let after = survivors.map(Figures.init)
      try load.stop()
      try watch.stop()
      note("end: \(try line(cluster, load, schedule))")
      try schedule.requireEqual()
      note("\(schedule.count) faults (\(schedule.summary)): \(load.summary)")
      for node in cluster.nodes { try load.require(in: node) }
      for (one, other) in zip(before ?? [], after) {
        #expect(other.memoryBytes < one.memoryBytes + max(32 << 20, one.memoryBytes / 4))
        // Readers are opened as they are needed.
        #expect(other.openFiles < one.openFiles + 40)
      }
    }

    /// Ends what lasts, and waits until the WALs are short again under the load.
    private func quieten(_ cluster: Cluster, _ schedule: FaultSchedule) throws {
      try schedule.end()
      let bytesMax = 32 + Self.framesMax * (4096 + 24)
      try eventually("WALs that begin anew", deadline: .seconds(60)) {
        cluster.nodes.allSatisfy { Files.size($0.database + "-wal") <= bytesMax }
      }
    }

    private func line(
      _ cluster: Cluster, _ load: WorkloadSet, _ schedule: FaultSchedule
    ) throws -> String {
      let nodes = cluster.nodes
      let memory = nodes.map { "\($0.memoryBytes("RssAnon") >> 20)" }.joined(separator: " ")
      let files = nodes.map { "\($0.openFiles)" }.joined(separator: " ")
      let logs = nodes.map { "\(Files.size($0.database + "-wal") >> 10)" }.joined(separator: " ")
      return "\(schedule.count) faults, \(load.acknowledgedCount) acknowledged, "
        + "memory \(memory) MiB, files \(files), WAL \(logs) KiB, "
        + "database \(Files.size(cluster.primary.database) >> 20) MiB"
    }
  }
}
