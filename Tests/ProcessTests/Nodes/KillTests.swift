// kill -9 of either side under load: nothing acknowledged is lost, nothing is made twice, nobody
// goes back, and nothing is copied again.

import EdgeTesting
import Serving
import Store
import Synchronization
import Testing

extension NodeTests {
  @Suite struct KillTests {
    /// Either side dies at random moments under all workloads: nothing that was told turns out to
    /// be wrong, nobody goes back, and what moves is what is new.
    @Test func rows01and02_killsUnderLoad() throws {
      var random = SeededGenerator(seed: 50)
      print("seed \(random.seed)")
      let cluster = try Cluster(replicas: 2) { path in
        try Ballast.make(path)
        try Connection(path: path, mode: .readWrite).execute(WorkloadSet.schemaBesideLog)
      }
      try cluster.settle()
      let copied = cluster.links.map { $0.bytes(.down) }
      #expect(copied.allSatisfy { $0 > 20_000_000 })
      let watch = PositionWatch(ports: cluster.replicas.map(\.listenPort))
      let (rounds, kills) = NodeTests.runsFaults ? (10, 100) : (1, 20)
      for round in 0..<rounds {
        let load = WorkloadSet(ports: cluster.ports, run: round, random: &random)
        for _ in 0..<kills {
          let node = [cluster.primary, cluster.primary, cluster.replicas[0], cluster.replicas[1]]
            .randomElement(using: &random)
          try load.progress(1)
          elapse(seconds: .random(in: 0..<0.03, using: &random))
          node?.kill()
          try node?.start()
        }
        try load.progress(5)
        try load.stop()
        try cluster.requireEqual()
        note("\(kills) kills: \(load.summary)")
        for node in cluster.nodes {
          try load.require(in: node)
        }
      }
      try watch.stop()
      let moved = zip(cluster.links, copied).map { ($0.bytes(.down) - $1) / (rounds * kills) }
      note("\(moved) bytes moved down per kill, load included, of \(copied)")
      #expect(zip(moved, copied).allSatisfy { $0 < $1 / 10 }, "seed \(random.seed)")
      #expect(try cluster.primary.report()["epoch"]?.integer == 1)
    }

    /// A restart without new writes moves next to nothing: the position is the whole truth.
    @Test func rows01and02_quietRestartMovesNothing() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run(WriteLoad.schema)
      for _ in 0..<20 {
        try client.run("INSERT INTO log(id, body) VALUES (1, hex(randomblob(20000)))")
      }
      try cluster.settle()
      var moved: [Int] = []
      for round in 0..<6 {
        let before = cluster.link.bytes(.down)
        let connections = cluster.link.connections
        let node = round % 2 == 0 ? cluster.primary : cluster.replica
        node.kill()
        try node.start()
        try eventually("a new link") { cluster.link.connections > connections }
        try cluster.primary.connect().run("INSERT INTO log(id, body) VALUES (2, 'after')")
        try cluster.settle()
        moved.append(cluster.link.bytes(.down) - before)
      }
      note(
        "bytes moved down after a quiet kill -9 (primary, replica, …), one small write included: \(moved)"
      )
      #expect(moved.allSatisfy { $0 < 64 << 10 })
      try cluster.requireEqual()
      #expect(try cluster.primary.report()["epoch"]?.integer == 1)
    }

    /// Killed in its first moments: what was acknowledged is there.
    @Test func rows01and55_newDatabaseKilledAtOnce() throws {
      for _ in 0..<5 {
        let directory = try TestDirectory()
        let primary = try NodeProcess(.primary, in: directory, database: "new.db")
        let client = try primary.connect()
        try client.run("CREATE TABLE t(id INTEGER)")
        try client.run("INSERT INTO t VALUES (1)")
        primary.kill()
        try primary.start()
        #expect(try primary.connect().integer("SELECT count(*) FROM t") == 1)
      }
    }

    /// A replica that dies during its first copy goes on, and is not read before it is complete.
    @Test func row02_replicaKilledDuringItsFirstCopy() throws {
      let cluster = try Cluster(replicas: 0) { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 5000)"
            + "INSERT INTO t SELECT i, randomblob(4000) FROM s")
      }
      let link = try FaultProxy(to: cluster.primary.shipPort)
      let replica = try NodeProcess(
        .replica, in: cluster.directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"], ships: false, waits: false)
      for part in 1...3 {
        try eventually("a part of the copy") { link.bytes(.down) > part * 4_000_000 }
        replica.kill()
        #expect(!Files.exists(replica.database))
        try replica.start(waits: false)
        try cluster.primary.connect().run(
          "UPDATE t SET b = randomblob(4000) WHERE id % 1000 = \(part)")
      }
      try replica.waitUntilReady(.seconds(120))
      try eventually("the replica at the primary's position") {
        try replica.txid() == cluster.primary.txid()
      }
      try samePages(cluster.primary.database, replica.database)
      note("a first copy of 20 MB with three kills moved \(link.bytes(.down)) bytes")
    }
  }
}
