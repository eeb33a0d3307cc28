// Links and primaries that go away, stop, or change what they carry.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct OutageTests {
    @Test func row37_primaryAwayAndBack() throws {
      let cluster = try Cluster()
      let client = try cluster.replica.connect()
      try client.run(WriteLoad.schema)
      for round in 1...3 {
        if round == 2 { try cluster.primary.terminate() } else { cluster.primary.kill() }
        try eventually("the replica to notice") {
          try client.request(".status").json["upstream"]?["state"]?.text == "connecting"
        }
        #expect(try client.integer("SELECT count(*) FROM log") == Int64(round - 1))
        let began = Deadline.now()
        let answer = try client.query("INSERT INTO log(id, body) VALUES (0, 'no')")
        #expect(answer.error == "PRIMARY_UNAVAILABLE" && answer.retry)
        #expect(Deadline.now() - began < 2_000_000_000)
        try cluster.primary.start()
        try eventually("the replica to write again", deadline: .seconds(10)) {
          try client.query("INSERT INTO log(id, body) VALUES (1, 'yes')").error == nil
        }
        #expect(try client.integer("SELECT count(*) FROM log") == Int64(round))
      }
      try cluster.requireEqual()
    }

    @Test func statusTellsHowFarACatchUpIs() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(v BLOB)")
      try cluster.settle()
      cluster.link.partition()
      try client.run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 10000) "
          + "INSERT INTO t SELECT randomblob(4000) FROM s")
      let before = cluster.link.bytes(.down)
      cluster.link.heal()
      try eventually("a part of the catch-up") {
        cluster.link.bytes(.down) > before + 2_000_000
      }
      cluster.link.pause()
      var upstream = JSONValue.null
      try eventually("the progress") {
        upstream = try cluster.replica.report()["upstream"] ?? .null
        return (upstream["received_bytes"]?.integer ?? 0) > 1_000_000
      }
      #expect(upstream["state"] == "catching up")
      let (received, expected) = (upstream["received_bytes"], upstream["expected_bytes"])
      #expect(try #require(expected?.integer) > 40_000_000)
      #expect(try #require(received?.integer) <= #require(expected?.integer))
      let text = try Program.edgeSQL().run(["status", "127.0.0.1:\(cluster.replica.listenPort)"])
      #expect(text.output.contains(" %, ") && text.output.contains(" MiB of "), "\(text.output)")
      cluster.link.heal()
      try cluster.requireEqual()
      #expect(try cluster.replica.report()["upstream"]?["received_bytes"] == .null)
    }

    /// A primary that stands still: writes end as unknown, reads go on.
    @Test func row03_suspendedPrimary() throws {
      let cluster = try Cluster()
      let client = try cluster.replica.connect()
      try client.run(WriteLoad.schema)
      try cluster.settle()
      cluster.primary.suspend()
      let began = Deadline.now()
      try client.send("INSERT INTO log(id, body) VALUES (1, 'lost?')\n")
      let reader = try cluster.replica.connect()
      for _ in 0..<20 { #expect(try reader.integer("SELECT count(*) FROM log") == 0) }
      let answer = try client.receive()
      let seconds = Double(Deadline.now() - began) / 1e9
      cluster.primary.resume()
      note(
        "a forwarded write to a suspended primary ended after \(seconds) s as \(answer.error ?? "done")"
      )
      #expect(answer.error == "OUTCOME_UNKNOWN")
      #expect(seconds < 16)
      try eventually("the link") {
        try client.query("INSERT INTO log(id, body) VALUES (2, 'x')").error == nil
      }
      try cluster.requireEqual()
      #expect(try client.integer("SELECT count(*) FROM log WHERE id = 1") <= 1)
    }

    /// A flipped bit is found, never applied, and the link is made anew.
    @Test func row13_bitFlippedOnTheWire() throws {
      var random = SeededGenerator(seed: 77)
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      for _ in 0..<20 {
        let load = WriteLoad(
          ports: [cluster.primary.listenPort, cluster.replica.listenPort], threads: 2,
          firstID: Int64(random.next() >> 2))
        let connections = cluster.link.connections
        let direction: FaultProxy.Direction =
          Int.random(in: 0..<4, using: &random) == 0 ? .up : .down
        cluster.link.flipBit(after: .random(in: 0..<3000, using: &random), direction)
        try eventually("the fault") { !cluster.link.flipIsPending(direction) }
        try eventually("a new link") { cluster.link.connections > connections }
        let outcome = try load.stop()
        try cluster.requireEqual()
        #expect(try outcome.problems(in: cluster.primary.database) == [], "seed \(random.seed)")
      }
    }

    @Test func row37_thirtyCutsUnderLoad() throws {
      var random = SeededGenerator(seed: 30)
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      let load = WriteLoad(
        ports: [cluster.primary.listenPort, cluster.replica.listenPort], threads: 2)
      for _ in 0..<30 {
        let connections = cluster.link.connections
        let direction: FaultProxy.Direction = Bool.random(using: &random) ? .up : .down
        cluster.link.cut(after: .random(in: 1..<5000, using: &random), direction)
        try eventually("a new link") { cluster.link.connections > connections }
      }
      let outcome = try load.stop()
      try cluster.requireEqual()
      note(
        "30 cuts: \(outcome.acknowledged.count) acknowledged, \(outcome.unknown.count) unknown, "
          + "\(outcome.refused.count) refused"
      )
      #expect(try outcome.problems(in: cluster.primary.database) == [], "seed \(random.seed)")
    }

    /// A replica that does not read costs the primary nothing.
    @Test func row04_suspendedReplica() throws {
      let cluster = try Cluster(replicas: 2)
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
      try cluster.settle()
      cluster.replica.suspend()
      let before = cluster.primary.memoryBytes("VmRSS")
      for _ in 0..<60 { try client.run("INSERT INTO t(v) VALUES (randomblob(1000000))") }
      let grown = cluster.primary.memoryBytes() - before
      note("60 MB of writes beside a suspended replica: the primary grew by \(grown >> 20) MiB")
      #expect(grown < 120 << 20)
      cluster.replica.resume()
      try cluster.requireEqual()
    }
  }
}
