// A disk that is full, on either side: writes fail by name, what is acknowledged stays, nobody
// dies, and all goes on by itself once there is space. Rows 7 and 8 of the fault matrix.
//
// The disks are small file systems in memory, which only root can mount; elsewhere these tests say
// that they were skipped.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct FullDiskTests {
    private func insert(_ node: NodeProcess, _ id: Int) throws -> String? {
      try node.connect().query(
        "INSERT INTO log(id, body) VALUES (\(id), hex(randomblob(20000)))"
      ).error
    }

    @Test func row07_fullDiskOfThePrimary() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      let primary = try NodeProcess(.primary, in: directory, database: disk.path + "/p.db")
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try primary.connect().run(WriteLoad.schema)
      var acknowledged: [Int] = []
      for id in 0..<20 where try insert(primary, id) == nil { acknowledged.append(id) }
      #expect(acknowledged.count == 20)
      try disk.fill(spare: 200_000)
      var refused: [String] = []
      for id in 100..<140 {
        if let error = try insert(primary, id) {
          refused.append(error)
        } else {
          acknowledged.append(id)
        }
      }
      #expect(!refused.isEmpty, "the disk was never full")
      #expect(primary.isRunning)
      // Reads go on, and what was acknowledged is there.
      #expect(try primary.connect().integer("SELECT count(*) FROM log") == acknowledged.count)
      disk.free()
      try eventually("writes work again") { try insert(primary, 1000) == nil }
      acknowledged.append(1000)
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
      let ids = try primary.connect().run("SELECT id FROM log ORDER BY seq").rows
      #expect(ids.compactMap { $0.first?.integer }.map(Int.init) == acknowledged)
    }

    @Test func row08_fullDiskOfAReplica() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      let replica = try NodeProcess(
        .replica, in: directory, database: disk.path + "/r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try primary.connect().run(WriteLoad.schema)
      for id in 0..<20 { #expect(try insert(primary, id) == nil) }
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try disk.fill(spare: 200_000)
      for id in 100..<140 { #expect(try insert(primary, id) == nil) }
      try eventually("the replica says what is wrong") {
        try replica.status("upstream", "last_error")?.text?.contains("space") == true
      }
      // It serves the state that it has, whole.
      let rows = try replica.connect().integer("SELECT count(*) FROM log")
      #expect(rows >= 20 && rows < 60)
      #expect(replica.isRunning)
      disk.free()
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
    }

    /// The disks of both sides fill up, one after the other, under all workloads.
    @Test func rows07and08_fullDisksUnderLoad() throws {
      var random = SeededGenerator(seed: 78)
      let directory = try TestDirectory()
      let other = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 64, in: directory),
        let replicaDisk = try SmallDisk(megabytes: 64, in: other)
      else { return }
      let flags = ["--checkpoint-frames", "200"]
      let cluster = try Cluster(
        replicas: 0, primaryArguments: flags, in: directory, database: disk.path + "/p.db"
      ) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.addReplica(arguments: flags, database: replicaDisk.path + "/r.db")
      defer { for node in cluster.nodes { node.kill() } }
      try cluster.settle()
      let load = WorkloadSet(
        ports: cluster.ports, random: &random,
        tolerated: ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR"])
      for round in 0..<(NodeTests.runsFaults ? 6 : 2) {
        try load.progress(3)
        if round % 2 == 0 {
          try disk.fill(spare: 100_000)
          try eventually("writes that find no space") {
            load.workloads.contains { $0.tally.refusals["SQLITE_FULL"] ?? 0 > round }
          }
          disk.free()
        } else {
          try replicaDisk.fill(spare: 100_000)
          try eventually("the replica says what is wrong") {
            try cluster.replica.status("upstream", "last_error")?.text?.contains("space") == true
          }
          replicaDisk.free()
        }
      }
      try load.progress(3)
      try load.stop()
      note("disks that are full: \(load.summary)")
      try cluster.requireEqual()
      for node in cluster.nodes {
        #expect(node.isRunning)
        try load.require(in: node)
      }
    }

    /// A replica whose first copy does not fit says so, and completes it when it does.
    @Test func row08_firstCopyThatDoesNotFit() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      try Ballast.make(directory.file("p.db"), rows: 2000)
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      try disk.fill(spare: 4_000_000)
      let replica = try NodeProcess(
        .replica, in: directory, database: disk.path + "/r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false, waits: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try eventually("the replica says what is wrong") { replica.errorText.contains("space") }
      disk.free()
      try replica.waitUntilReady()
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
    }
  }
}
