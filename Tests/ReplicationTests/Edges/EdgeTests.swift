// Many databases at replicas: what is made, written, copied and dropped at the primary is so at its
// replicas, over one connection.

import EdgeTesting
import Glibc
import Replica
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct EdgeTests {
  @Test func databasesComeAndGo() async throws {
    try await EdgeNodes.with { (nodes) async throws in
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      #expect(try reader.databases == [])
      for name in ["a", "b"] {
        try nodes.create(name)
        try writer.run("INSERT INTO t VALUES ('\(name)')", in: name)
      }
      for name in ["a", "b"] {
        try nodes.wait(for: 1, in: name)
        #expect(try reader.run("SELECT v FROM t", in: name).value == .string(name))
      }
      #expect(try reader.databases == ["a", "b"])
      try writer.command(".db fork a c")
      try nodes.wait(for: 1, in: "c")
      try writer.run("INSERT INTO t VALUES ('more')", in: "c")
      try nodes.wait(for: 2, in: "c")
      #expect(try reader.run("SELECT count(*) FROM t", in: "a").integer == 1)
      try writer.command(".db drop a")
      try eventually("the database is gone") { try reader.databases == ["b", "c"] }
      #expect(try reader.query("SELECT 1", [], [("db", "a")]).error == "DATABASE_NOT_FOUND")
      let files = Files.names(in: nodes.directory.file("replica0"))
      #expect(!files.contains { $0.hasPrefix("a.") }, "\(files)")
      let status = try reader.request(".status").json
      #expect(status["upstream_state"] == "linked")
      #expect(status["databases"] == 2)
      #expect((status["contact_ms"]?.integer ?? .max) < 20_000)
      #expect(nodes.link.connections == 1)
      await nodes.stop()
      try nodes.requireEqual(["b", "c"])
    }
  }

  @Test func onlyWhatMatchesIsTaken() async throws {
    let filter = try #require(DatabaseFilter("eu-*,users"))
    try await EdgeNodes.with(filter: filter) { (nodes) async throws in
      for name in ["eu-1", "us-1", "users", "users2", "eu-2"] { try nodes.create(name, rows: 1) }
      let reader = try nodes.reader()
      for name in ["eu-1", "eu-2", "users"] { try nodes.wait(for: 1, in: name) }
      #expect(try reader.databases == ["eu-1", "eu-2", "users"])
      #expect(try reader.query("SELECT 1", [], [("db", "us-1")]).error == "DATABASE_NOT_FOUND")
      // What is not taken any more stays as it is, and is not served.
      await nodes.stopReplica()
      try await nodes.startReplica { $0.filter = DatabaseFilter("users") ?? .all }
      try nodes.wait(for: 1, in: "users")
      try nodes.writer().run("INSERT INTO t VALUES (2)", in: "users")
      try nodes.wait(for: 2, in: "users")
      #expect(try nodes.reader().databases == ["users"])
      #expect(Files.exists(nodes.directory.file("replica0/eu-1.db")))
    }
  }

  /// Writes at a replica go to the primary's database of that name, and are there for the next read.
  @Test func writesAreForwarded() async throws {
    try await EdgeNodes.with { (nodes) async throws in
      for name in ["a", "b"] { try nodes.create(name) }
      for name in ["a", "b"] { try nodes.wait(for: 0, in: name) }
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      for round in 1...20 {
        let name = round % 2 == 0 ? "a" : "b"
        let written = try reader.run("INSERT INTO t VALUES (\(round))", in: name)
        #expect(try reader.run("SELECT max(v) FROM t", in: name).integer == Int64(round))
        let token = try #require(written.token)
        #expect(
          try writer.run("SELECT max(v) FROM t", in: name, token: token).integer == Int64(round))
      }
      // Their tokens are not each other's.
      let token = try #require(try writer.run("SELECT 1", in: "a").token)
      let strange = try reader.query("SELECT 1", [], [("db", "b"), ("token", .string(token))])
      #expect(strange.error == "TOKEN_INVALID")
      // A transaction, from the replica.
      try reader.command(".use a")
      try reader.run("BEGIN IMMEDIATE")
      try reader.run("INSERT INTO t VALUES (100)")
      try reader.run("COMMIT")
      #expect(try reader.integer("SELECT max(v) FROM t") == 100)
      await nodes.stop()
      try nodes.requireEqual(["a", "b"])
    }
  }

  /// A token of the primary is honoured at the replica, whether the database is open there or not.
  @Test func tokensOfThePrimaryAreHonoured() async throws {
    try await EdgeNodes.with(idleMilliseconds: 50) { (nodes) async throws in
      try nodes.create("a")
      try nodes.wait(for: 0, in: "a")
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      for round in 1...30 {
        if round % 3 == 0 { try eventually("both rest") { nodes.isAtRest } }
        let token = try #require(try writer.run("INSERT INTO t VALUES (\(round))", in: "a").token)
        let answer = try reader.query(
          "SELECT max(v) FROM t", [],
          [("db", "a"), ("token", .string(token)), ("wait_ms", 20_000), ("on_lag", "error")])
        #expect(answer.integer == Int64(round), "\(answer.message)")
      }
    }
  }

  /// A name that was taken again is another database: nothing of the former one is seen under a
  /// token of the new one, and in the end nothing of it is left.
  @Test func aNameThatIsTakenAgainShowsNothingOld() async throws {
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      var former: String?
      for round in 1...6 {
        try writer.command(".db create a")
        let made = try writer.run("CREATE TABLE t(v)", in: "a")
        try writer.run("INSERT INTO t VALUES ('round \(round)')", in: "a")
        let token = try #require(try writer.run("SELECT 1", in: "a").token)
        #expect(made.token != former)
        var values: [JSONValue] = []
        try eventually("the new one") {
          // Each try on a connection that has seen nothing.
          let answer = try nodes.reader().query(
            "SELECT v FROM t", [],
            [("db", "a"), ("token", .string(token)), ("on_lag", "error")])
          guard answer.error == nil else { return false }
          values = answer.rows.compactMap(\.first)
          return true
        }
        #expect(values == [.string("round \(round)")])
        former = token
        try writer.command(".db drop a")
        if round % 2 == 0 { try eventually("gone") { try reader.databases == [] } }
      }
    }
  }

  // MARK: What rests

  @Test func twoHundredDatabasesOverOneConnection() async throws {
    let count = 200
    try await EdgeNodes.with(idleMilliseconds: 200, openMax: 40) { (nodes) async throws in
      let names = (0..<count).map { "d\($0)" }
      let (writer, reader) = (try nodes.writer(), try nodes.reader())
      for name in names { try nodes.create(name) }
      try eventually("all are there", deadline: .seconds(180)) {
        try reader.databases.count == count
      }
      try eventually("all rest", deadline: .seconds(120)) { nodes.isAtRest }
      // What rests is woken alone.
      for name in [names[17], names[117]] {
        try writer.run("INSERT INTO t VALUES (1)", in: name)
        try nodes.wait(for: 1, in: name)
      }
      try eventually("all rest again", deadline: .seconds(120)) { nodes.isAtRest }
      // A read wakes nothing at the primary.
      let before = nodes.primary.databases.counts.open
      try reader.run("SELECT * FROM t", in: names[3])
      #expect(before == 0 && nodes.primary.databases.counts.open == 0)
      #expect(nodes.link.connections == 1)
      for name in names { try reader.run("INSERT INTO t VALUES (2)", in: name) }
      await nodes.stop()
      try nodes.requireEqual(names)
    }
  }

  /// A primary that starts again tells where its closed databases stand without opening them.
  @Test func restingDatabasesRestAfterARestart() async throws {
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      for name in ["a", "b", "c"] { try nodes.create(name, rows: 2) }
      for name in ["a", "b", "c"] { try nodes.wait(for: 2, in: name) }
      try eventually("all rest") { nodes.isAtRest }
      await nodes.stopPrimary()
      // Reads go on, and writes say why they cannot.
      let reader = try nodes.reader()
      for name in ["a", "b", "c"] {
        #expect(try reader.run("SELECT count(*) FROM t", in: name).integer == 2)
        let refused = try reader.query("INSERT INTO t VALUES (3)", [], [("db", .string(name))])
        #expect(refused.error == "PRIMARY_UNAVAILABLE")
      }
      try await nodes.startPrimary()
      try eventually("linked") { nodes.replica.isLinked }
      try nodes.writer().run("INSERT INTO t VALUES (3)", in: "b")
      try nodes.wait(for: 3, in: "b")
      // Only that one was opened.
      #expect(nodes.primary.databases.counts.open == 1)
      try eventually("all rest") { nodes.isAtRest }
    }
  }

  /// What another program wrote to a closed database is taken when it is opened, and reaches the
  /// replicas.
  @Test func commitsOfOtherProgramsReachReplicas() async throws {
    let sqlite = try #require(Program(named: "sqlite3"))
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      try nodes.create("a", rows: 1)
      try nodes.wait(for: 1, in: "a")
      try eventually("both rest") { nodes.isAtRest }
      let file = nodes.directory.file("primary/a.db")
      #expect(try sqlite.run([file, "INSERT INTO t VALUES (7)"]).succeeded)
      #expect(try nodes.writer().run("SELECT count(*) FROM t", in: "a").integer == 2)
      try nodes.wait(for: 2, in: "a")
      // While it is open, as they come.
      try nodes.writer().run("INSERT INTO t VALUES (8)", in: "a")
      #expect(try sqlite.run([file, "INSERT INTO t VALUES (9)"]).succeeded)
      try nodes.wait(for: 4, in: "a")
      await nodes.stop()
      try nodes.requireEqual(["a"])
    }
  }
}

extension EdgeNodes {
  /// Nothing is open anywhere, and nothing is followed.
  var isAtRest: Bool {
    primary.databases.counts.open == 0
      && replicas.allSatisfy { $0.databases.counts.open == 0 && $0.streamCount == 0 }
  }

  /// What is open and followed, for a test that waits for rest in vain.
  var openCounts: String {
    let below = replicas.map { "\($0.databases.counts.open) with \($0.streamCount) streams" }
    return "\(primary.databases.counts.open) open at the primary, at replicas \(below)"
  }
}
