// Many databases at replicas, when links break, nodes stop, and one database is large or slow.

import EdgeTesting
import NIOCore
import Replica
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct EdgeFaultTests {
  /// A link that breaks again and again costs nothing but time.
  @Test func aLinkThatIsCut() async throws {
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      let names = ["a", "b", "c", "d"]
      for name in names { try nodes.create(name) }
      for name in names { try nodes.wait(for: 0, in: name) }
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      var acknowledged = [String: Int]()
      for round in 0..<60 {
        let name = names[round % names.count]
        try writer.run("INSERT INTO t VALUES (zeroblob(\(round * 200)))", in: name)
        acknowledged[name, default: 0] += 1
        let forwarded = try reader.query(
          "INSERT INTO t VALUES ('edge')", [],
          [("db", .string(name)), ("key", .string("k\(round)"))])
        switch forwarded.error {
        case nil: acknowledged[name, default: 0] += 1
        case "PRIMARY_UNAVAILABLE": break
        case "OUTCOME_UNKNOWN":
          // With its key it is made once, whether it was made before or not.
          try writer.run(
            "INSERT INTO t VALUES ('edge')", [],
            [("db", .string(name)), ("key", .string("k\(round)"))])
          acknowledged[name, default: 0] += 1
        case let code?: Issue.record("\(code): \(forwarded.message)")
        }
        if round % 5 == 0 { nodes.link.cut() }
        if round % 7 == 0 { nodes.link.cut(after: 3000, .down) }
      }
      for name in names { try nodes.wait(for: acknowledged[name] ?? 0, in: name) }
      await nodes.stop()
      try nodes.requireEqual(names)
    }
  }

  @Test func eitherSideStartsAgain() async throws {
    try await EdgeNodes.with { (nodes) async throws in
      for name in ["a", "b"] { try nodes.create(name, rows: 3) }
      for name in ["a", "b"] { try nodes.wait(for: 3, in: name) }
      await nodes.stopReplica()
      let writer = try nodes.writer()
      try writer.run("INSERT INTO t VALUES (4)", in: "a")
      try writer.command(".db drop b")
      try nodes.create("c", rows: 1)
      try await nodes.startReplica()
      try nodes.wait(for: 4, in: "a")
      try nodes.wait(for: 1, in: "c")
      try eventually("gone") { try nodes.reader().databases == ["a", "c"] }
      await nodes.stopPrimary()
      #expect(try nodes.reader().run("SELECT count(*) FROM t", in: "a").integer == 4)
      try await nodes.startPrimary()
      try nodes.writer().run("INSERT INTO t VALUES (5)", in: "a")
      try nodes.wait(for: 5, in: "a")
      await nodes.stop()
      try nodes.requireEqual(["a", "c"])
    }
  }

  /// The first copy of a large database takes its time on a slow link, and another one goes on.
  @Test func aLargeDatabaseDoesNotHoldBackAnother() async throws {
    try await EdgeNodes.with(replicas: 0) { (nodes) async throws in
      try nodes.create("small")
      let writer = try nodes.writer()
      try writer.command(".db create large")
      try writer.run(
        """
        CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
        SELECT i AS v, randomblob(5000) AS pad FROM n
        """, in: "large")
      try await nodes.addReplica(bytesPerSecond: 1 << 20)
      try nodes.wait(for: 0, in: "small")
      let reader = try nodes.reader()
      for round in 1...6 {
        let token = try #require(
          try writer.run("INSERT INTO t VALUES (\(round))", in: "small").token)
        let answer = try reader.query(
          "SELECT count(*) FROM t", [],
          [("db", "small"), ("token", .string(token)), ("wait_ms", 20_000), ("on_lag", "error")])
        #expect(answer.integer == Int64(round), "\(answer.message)")
      }
      // All of that went by before the copy was complete; until then a client is told to come again.
      let early = try reader.query("SELECT count(*) FROM t", [], [("db", "large")])
      #expect(early.error == "OVERLOADED" && early.retry, "\(early.json)")
      #expect(nodes.link.connections == 1)
      nodes.link.heal()
      try nodes.wait(for: 4000, in: "large")
      await nodes.stop()
      try nodes.requireEqual(["small", "large"])
    }
  }

  /// A follower that takes nothing of one database gets a window of it, and all of another.
  @Test func aDatabaseThatIsNotTakenIsNotSent() async throws {
    try await EdgeNodes.with(replicas: 0) { (nodes) async throws in
      try nodes.create("small")
      let writer = try nodes.writer()
      try writer.command(".db create large")
      try writer.run(
        """
        CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        SELECT i AS v, randomblob(5000) AS pad FROM n
        """, in: "large")
      let follower = try RawTrunkFollower(port: try #require(nodes.primary.shipAddress?.port))
      try follower.open("large", on: 1)
      try follower.open("small", on: 2)
      let deadline = Deadline.seconds(120)
      var received = 0
      var hasSmall = false
      var transactions = 0
      func receive() throws {
        let message = try follower.receive(by: deadline)
        switch (message.stream, message.kind) {
        case (1, _): received += ShipMessage.headerBytes + message.body.readableBytes
        case (2, .roundEnd): hasSmall = try ShipRoundEnd(decoding: message.body).isConsistent
        case (2, .transaction): transactions += 1
        default: break
        }
      }
      // What is written before a copy ends may be in it.
      while !hasSmall { try receive() }
      for round in 0..<50 {
        try writer.run("INSERT INTO t VALUES (\(round))", in: "small")
        while transactions <= round { try receive() }
      }
      // A window, and the message that crossed its end.
      #expect(received <= ShipTrunk.windowBytes + ShipMessage.bytesMax, "\(received) bytes")
      #expect(received >= ShipTrunk.windowBytes / 2, "\(received) bytes")
      // What is taken is followed by more.
      try follower.take(received, of: 1)
      let before = received
      while received < before + ShipTrunk.windowBytes / 2 { try receive() }
    }
  }

  /// A replica does not throw away what it holds because it was led to another primary.
  @Test func anotherFolderIsNotFollowed() async throws {
    try await EdgeNodes.with { (nodes) async throws in
      try nodes.create("a", rows: 2)
      try nodes.wait(for: 2, in: "a")
      await nodes.stopPrimary()
      try await nodes.startPrimary(folder: nodes.directory.file("other"))
      try nodes.create("b", rows: 1)
      try eventually("another try") { nodes.link.connections >= 4 }
      #expect(try nodes.reader().databases == ["a"])
      #expect(try nodes.reader().run("SELECT count(*) FROM t", in: "a").integer == 2)
      await nodes.stopReplica()
      try await nodes.startReplica { $0.resets = true }
      try nodes.wait(for: 1, in: "b")
      #expect(try nodes.reader().databases == ["b"])
    }
  }

  /// A database is closed at the primary just when a write comes from a replica: it was not taken,
  /// and is sent again, or it was taken, and keeps it open. Either way it is made once.
  @Test func writesMeetTheEndOfStreams() async throws {
    try await EdgeNodes.with(idleMilliseconds: 10) { (nodes) async throws in
      let names = ["a", "b"]
      for name in names { try nodes.create(name) }
      for name in names { try nodes.wait(for: 0, in: name) }
      let clients = try names.map { _ in try nodes.reader() }
      for round in 1...120 {
        // The sweeper looks every 10 ms: all phases of it are met.
        if round % 3 != 0 { elapse(seconds: Double(round % 40) / 1000) }
        for (name, client) in zip(names, clients) {
          try client.send(
            LineConnection.line("INSERT INTO t VALUES (\(round))", [], [("db", .string(name))])
              + "\n")
        }
        for client in clients {
          let answer = try client.receive()
          #expect(answer.error == nil, "\(answer.message)")
        }
        for (name, client) in zip(names, clients) {
          #expect(try client.run("SELECT count(*) FROM t", in: name).integer == Int64(round))
        }
      }
      await nodes.stop()
      try nodes.requireEqual(names)
    }
  }

  /// Everything at once, as a seed says; in the end the replicas have what the primary has.
  @Test(arguments: [1, 2, 3]) func everythingAtOnce(_ seed: UInt64) async throws {
    try await EdgeNodes.with(idleMilliseconds: 30, openMax: 6) { (nodes) async throws in
      try await nodes.addReplica(above: 0)
      var random = SeededGenerator(seed: seed)
      let writer = try nodes.writer()
      var rows: [String: Int] = [:]
      for step in 0..<150 {
        let name = "d\(Int.random(in: 0..<12, using: &random))"
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<3 where rows[name] == nil:
          try nodes.create(name)
          rows[name] = 0
        case 3 where rows[name] != nil:
          try writer.command(".db drop \(name)")
          rows[name] = nil
        case 4:
          let new = "f\(Int.random(in: 0..<6, using: &random))"
          guard let count = rows[name], rows[new] == nil else { continue }
          try writer.command(".db fork \(name) \(new)")
          rows[new] = count
        case 5: nodes.links[Int.random(in: 0...1, using: &random)].cut()
        case 6: nodes.links[Int.random(in: 0...1, using: &random)].cut(after: 2000, .down)
        default:
          guard rows[name] != nil else { continue }
          try writer.run("INSERT INTO t VALUES (zeroblob(\(step * 40)))", in: name)
          rows[name, default: 0] += 1
        }
      }
      let names = rows.keys.sorted()
      for number in 0...1 {
        let reader = try nodes.reader(number)
        try eventually("\(names) at \(number)", deadline: .seconds(120)) {
          try reader.databases == names
        }
        for name in names { try nodes.wait(for: rows[name] ?? 0, in: name, at: number) }
      }
      try eventually("all rest: \(nodes.openCounts)", deadline: .seconds(120)) { nodes.isAtRest }
      await nodes.stop()
      for number in 0...1 { try nodes.requireEqual(names, at: number) }
    }
  }

  // MARK: Chains

  @Test func aReplicaOfAReplica() async throws {
    try await EdgeNodes.with(idleMilliseconds: 200) { (nodes) async throws in
      try await nodes.addReplica(above: 0)
      for name in ["a", "b"] { try nodes.create(name, rows: 1) }
      for name in ["a", "b"] { try nodes.wait(for: 1, in: name, at: 1) }
      // Through two links, from rest and back.
      let leaf = try nodes.reader(1)
      for round in 2...6 {
        try eventually("all rest") { nodes.isAtRest }
        try leaf.run("INSERT INTO t VALUES (\(round))", in: "a")
        #expect(try leaf.run("SELECT count(*) FROM t", in: "a").integer == Int64(round))
        try nodes.wait(for: round, in: "a", at: 0)
      }
      try nodes.writer().command(".db drop b")
      try nodes.create("c", rows: 3)
      try nodes.wait(for: 3, in: "c", at: 1)
      try eventually("gone") { try leaf.databases == ["a", "c"] }
      // While the one in the middle is away, what is here is served; afterwards it goes on.
      await nodes.stopReplica(0)
      #expect(try leaf.run("SELECT count(*) FROM t", in: "a").integer == 6)
      try nodes.writer().run("INSERT INTO t VALUES (7)", in: "a")
      try await nodes.startReplica(0) {
        $0.options.ship?.port = nodes.replicas[0].shipAddress?.port ?? 0
      }
      try nodes.wait(for: 7, in: "a", at: 1)
      #expect(try leaf.databases == ["a", "c"])
      await nodes.stop()
      for number in 0...1 { try nodes.requireEqual(["a", "c"], at: number) }
    }
  }
}
