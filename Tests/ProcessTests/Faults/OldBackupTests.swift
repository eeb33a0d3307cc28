// An older copy of the database is put under the primary while clients write to all nodes.

import EdgeTesting
import Glibc
import Store
import Testing
import WALShip

extension NodeTests {
  @Suite struct OldBackupTests {
    /// What was acknowledged before the copy, and after it was put back, is kept. Of what was
    /// written in between, each answer must have been true when it was given.
    @Test func rows18and19_olderBackupUnderLoad() throws {
      var random = SeededGenerator(seed: 18)
      let cluster = try SoakCluster.make()
      let path = cluster.primary.database
      for round in 0..<(NodeTests.runsFaults ? 5 : 1) {
        let before = WorkloadSet(ports: cluster.ports, run: round * 3, random: &random)
        try before.progress(5)
        try before.stop()
        try cluster.primary.terminate()
        let copy = try Files.read(path)
        try cluster.primary.start()
        let epoch = try #require(try cluster.primary.status("epoch")?.integer)

        let between = WorkloadSet(ports: cluster.ports, run: round * 3 + 1, random: &random)
        try between.progress(5)
        cluster.primary.kill()
        try between.stop()
        // The way people do it: the file is put back, and whatever else lies there stays.
        for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
        try cluster.directory.write("backup.db", copy)
        #expect(rename(cluster.directory.file("backup.db"), path) == 0)
        try cluster.primary.start()

        let newEpoch = try #require(try cluster.primary.status("epoch")?.integer)
        #expect(newEpoch > epoch)

        // Until the new epoch reaches a replica, it shows the lost one. Whoever looks there is told
        // of the loss afterwards, and nobody else.
        let after = WorkloadSet(
          ports: cluster.ports, run: round * 3 + 2, random: &random,
          epochsLostBelow: Epoch(UInt32(newEpoch)))
        try after.progress(5)
        try after.stop()
        try cluster.requireEqual()
        for node in cluster.nodes {
          try before.require(in: node)
          try after.require(in: node)
        }
        #expect(between.workloads.flatMap(\.tally.violations).isEmpty)
      }
    }
  }
}
