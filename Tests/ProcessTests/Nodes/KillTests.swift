// kill -9 of either side under load: nothing acknowledged is lost, nothing is made twice, nobody
// goes back, and nothing is copied again.

import EdgeTesting
import Serving
import Store
import Synchronization
import Testing

extension NodeTests {
  @Suite struct KillTests {
    @Test func fiftyKillsUnderLoad() throws {
      var random = SeededGenerator(seed: 50)
      let cluster = try Cluster(replicas: 2) { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "CREATE TABLE ballast(id INTEGER PRIMARY KEY, b BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 5000)"
            + "INSERT INTO ballast SELECT i, randomblob(4000) FROM s; \(WriteLoad.schema)")
      }
      try cluster.settle()
      let copied = cluster.link.bytes(.down)
      #expect(copied > 20_000_000)
      let watch = TXIDWatch(ports: cluster.replicas.map(\.listenPort))
      let load = WriteLoad(
        ports: [cluster.primary, cluster.replicas[0], cluster.replicas[1]].map(\.listenPort),
        threads: 3, depth: 4)
      for round in 0..<50 {
        let node = round % 2 == 0 ? cluster.primary : cluster.replica
        let before = load.acknowledgedCount
        let limit = Int.random(in: 1...60, using: &random)
        try eventually("writes in round \(round)", deadline: .seconds(60)) {
          load.acknowledgedCount >= before + limit
        }
        node.kill()
        try node.start()
      }
      let outcome = try load.stop()
      try watch.stop()
      try cluster.requireEqual()
      let moved = (cluster.link.bytes(.down) - copied) / 50
      note(
        "50 kills: \(outcome.acknowledged.count) acknowledged, \(outcome.unknown.count) unknown, "
          + "\(outcome.refused.count) refused; \(moved) bytes moved down per kill, load included, of \(copied)"
      )
      #expect(try outcome.problems(in: cluster.primary.database) == [], "seed \(random.seed)")
      #expect(moved < copied / 10, "seed \(random.seed)")
    }

    /// A restart without new writes moves next to nothing: the position is the whole truth.
    @Test func quietRestartMovesNothing() throws {
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
    @Test func newDatabaseKilledAtOnce() throws {
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
    @Test func replicaKilledDuringItsFirstCopy() throws {
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

/// Watches the positions that replicas tell, through restarts.
private final class TXIDWatch: Sendable {
  private let stops = Flag()
  private let threads: [BackgroundThread]

  init(ports: [Int]) {
    let stops = stops
    threads = ports.map { port in
      BackgroundThread {
        var last = (epoch: Int64(0), txid: Int64(0))
        while !stops.isSet {
          guard let connection = try? LineConnection(port: port) else {
            elapse(seconds: 0.01)
            continue
          }
          while !stops.isSet, let status = try? connection.request(".status").json {
            let now = (epoch: status["epoch"]?.integer ?? 0, txid: status["txid"]?.integer ?? 0)
            guard now.epoch > last.epoch || (now.epoch == last.epoch && now.txid >= last.txid)
            else {
              throw TestFailure("a replica went from \(last) back to \(now)")
            }
            last = now
            elapse(seconds: 0.005)
          }
        }
      }
    }
  }

  func stop() throws {
    stops.set()
    for thread in threads { try thread.join() }
  }
}
