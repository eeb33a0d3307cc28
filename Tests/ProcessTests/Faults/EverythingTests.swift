// All faults and all workloads at once, in an order that a seed decides. EDGE_SQL_SEED takes another
// seed, or that of a run that failed.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct EverythingTests {
    @Test func everythingAtOnce() throws {
      var random = SeededGenerator(
        seed: NodeTests.runsFaults ? .random(in: 0...UInt64(Int64.max)) : 2026)
      print("seed \(random.seed): EDGE_SQL_SEED=\(random.seed) repeats these faults")
      let cluster = try SoakCluster.make()
      let watch = PositionWatch(ports: cluster.replicas.map(\.listenPort))
      let schedule = FaultSchedule(cluster: cluster, mortal: [0, 1, 2, 3], random: &random)
      for run in 0..<(NodeTests.runsFaults ? 6 : 1) {
        let load = WorkloadSet(ports: cluster.ports, run: run, random: &random)
        for _ in 0..<(NodeTests.runsFaults ? 80 : 10) {
          try schedule.next()
          try load.progress(1)
        }
        try schedule.end()
        try load.progress(3)
        try load.stop()
        try schedule.requireEqual()
        note("\(schedule.count) faults (\(schedule.summary)): \(load.summary)")
        for node in cluster.nodes { try load.require(in: node) }
      }
      try watch.stop()
      let sql = "SELECT count(*) FROM log WHERE id < 0"
      #expect(try cluster.primary.connect().integer(sql) == schedule.foreignCount)
      #expect(try cluster.primary.report()["epoch"]?.integer == 1)
    }
  }
}

/// A primary, two replicas of it, and one that follows the first of them.
enum SoakCluster {
  static func make() throws -> Cluster {
    let flags = ["--checkpoint-frames", "300", "--scrub-rate", "64MiB"]
    let cluster = try Cluster(
      replicas: 0, primaryArguments: flags, prepare: FaultSchedule.prepare)
    try cluster.addReplica(arguments: flags, ships: true)
    try cluster.addReplica(arguments: flags)
    try cluster.addReplica(arguments: flags, following: cluster.replica)
    try cluster.settle()
    return cluster
  }
}
