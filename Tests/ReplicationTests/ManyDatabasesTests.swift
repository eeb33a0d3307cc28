// A primary of many databases: opened when somebody asks, closed when nobody does, made, copied and
// removed while the others are served.

import EdgeTesting
import Primary
import Serving
import Store
import TestTraits
import Testing

/// A primary of a folder, and its clients.
private final class DataNode {
  let service: PrimaryDataService
  let port: Int

  init(
    _ directory: TestDirectory, idleMilliseconds: Int = 60_000, openMax: Int = 100
  ) async throws {
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    var configuration = PrimaryDataConfiguration(folderPath: directory.path, options: options)
    configuration.databases.idleMilliseconds = idleMilliseconds
    configuration.databases.openMax = openMax
    service = try await PrimaryDataService(configuration: configuration)
    port = try #require(service.listenAddress?.port)
  }

  var openCount: Int { service.databases.counts.open }
  func connect() throws -> LineConnection { try LineConnection(port: port) }
}

private func withDataNode(
  _ directory: TestDirectory, idleMilliseconds: Int = 60_000, openMax: Int = 100,
  _ body: (DataNode) async throws -> Void
) async throws {
  let node = try await DataNode(directory, idleMilliseconds: idleMilliseconds, openMax: openMax)
  do {
    try await body(node)
  } catch {
    await node.service.stop()
    throw error
  }
  await node.service.stop()
}

@Suite(.services) struct ManyDatabasesTests {
  @Test func databasesAreMadeAndChosen() async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory) { (node) async throws in
      let client = try node.connect()
      #expect(try client.databases == [])
      #expect(try client.query("SELECT 1").error == "DATABASE_NOT_FOUND")
      #expect(try client.request(".use a").error == "DATABASE_NOT_FOUND")
      for name in ["b", "a", "default"] { try client.command(".db create \(name)") }
      #expect(try client.databases == ["a", "b", "default"])
      #expect(try client.request(".db create a").error == "DATABASE_EXISTS")
      for name in ["a", "b"] {
        try client.run("CREATE TABLE t(v)", in: name)
        try client.run("INSERT INTO t VALUES ('\(name)')", in: name)
      }
      // A request names another database for itself alone.
      #expect(try client.query("SELECT * FROM t").error == "SQLITE_ERROR")
      try client.command(".use a")
      #expect(try client.run("SELECT v FROM t").value == "a")
      #expect(try client.run("SELECT v FROM t", in: "b").value == "b")
      #expect(try client.run("SELECT v FROM t").value == "a")
      #expect(try client.request(".use nowhere").error == "DATABASE_NOT_FOUND")
      #expect(try client.run("SELECT v FROM t").value == "a")
    }
    try await withDataNode(directory) { (node) async throws in
      #expect(node.openCount == 0)
      #expect(try node.connect().run("SELECT v FROM t", in: "b").value == "b")
    }
  }

  @Test(arguments: [
    "..", "../x", "a/b", "a.db", "A", "a%2fb", "''", String(repeating: "n", count: 65),
  ])
  func wrongNamesMakeNothing(_ name: String) async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory) { (node) async throws in
      let client = try node.connect()
      try client.command(".db create good")
      let before = Files.names(in: directory.path)
      for line in ["create \(name)", "drop \(name)", "fork good \(name)", "fork \(name) new"] {
        #expect(try client.request(".db \(line)").error == "PROTOCOL", "\(line)")
      }
      #expect(try client.request(".use \(name)").error == "DATABASE_NOT_FOUND")
      #expect(
        try client.query("SELECT 1", [], [("db", .string(name))]).error == "DATABASE_NOT_FOUND")
      #expect(Files.names(in: directory.path) == before)
    }
  }

  @Test func pipelinedRequestsGoToTheirDatabases() async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory) { (node) async throws in
      let client = try node.connect()
      let names = ["a", "b", "c"]
      for name in names {
        try client.command(".db create \(name)")
        try client.run("CREATE TABLE t(n)", in: name)
      }
      var text = ""
      for number in 0..<90 {
        text += LineConnection.line(
          "INSERT INTO t VALUES (\(number)) RETURNING n", [], [("db", .string(names[number % 3]))])
        text += "\n"
      }
      try client.send(text)
      for number in 0..<90 { #expect(try client.receive().integer == Int64(number)) }
      for (index, name) in names.enumerated() {
        let answer = try client.run("SELECT count(*), min(n) FROM t", in: name)
        #expect(answer.rows.first == [30, .integer(Int64(index))])
      }
    }
  }

  @Test func aTransactionStaysInItsDatabase() async throws {
    try await withDataNode(try TestDirectory()) { (node) async throws in
      let client = try node.connect()
      for name in ["a", "b"] { try client.command(".db create \(name)") }
      try client.command(".use a")
      try client.run("CREATE TABLE t(v)")
      for begin in ["BEGIN", "BEGIN IMMEDIATE"] {
        try client.run(begin)
        #expect(try client.query("SELECT 1", [], [("db", "b")]).error == "NOT_ALLOWED")
        #expect(try client.request(".use b").error == "NOT_ALLOWED")
        #expect(try client.request(".db drop a").error == "NOT_ALLOWED")
        try client.run("INSERT INTO t VALUES (1)", in: "a")
        try client.run("COMMIT")
      }
      #expect(try client.integer("SELECT count(*) FROM t") == 2)
    }
  }

  /// The writer of one database is held by a transaction; that of another one goes on.
  @Test func databasesDoNotWaitForEachOther() async throws {
    try await withDataNode(try TestDirectory()) { (node) async throws in
      let holder = try node.connect()
      for name in ["a", "b"] {
        try holder.command(".db create \(name)")
        try holder.run("CREATE TABLE t(v)", in: name)
      }
      try holder.command(".use a")
      try holder.run("BEGIN IMMEDIATE")
      let blocked = try node.connect()
      try blocked.send(LineConnection.line("INSERT INTO t VALUES (1)", [], [("db", "a")]) + "\n")
      let other = try node.connect()
      for _ in 0..<20 { try other.run("INSERT INTO t VALUES (1)", in: "b") }
      #expect(try other.run("SELECT count(*) FROM t", in: "a").integer == 0)
      try holder.run("COMMIT")
      #expect(try blocked.receive().json["changes"] == 1)
    }
  }

  @Test func whatIsIdleIsClosed() async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory, idleMilliseconds: 50) { (node) async throws in
      let client = try node.connect()
      try client.command(".db create a")
      try client.run("CREATE TABLE t(v)", in: "a")
      for round in 1...5 {
        // The connection stays, and does not keep it open.
        try eventually("the database closed") { node.openCount == 0 }
        let path = directory.file("a.db")
        try eventually("\(path) is open") { !Self.openFiles.contains { $0.hasPrefix(path) } }
        try client.run("INSERT INTO t VALUES (\(round))", in: "a")
        #expect(try client.run("SELECT count(*) FROM t", in: "a").integer == Int64(round))
      }
      // A transaction keeps it.
      try client.command(".use a")
      try client.run("BEGIN")
      let other = try node.connect()
      try other.command(".db create b")
      try eventually("the other closed") { node.openCount == 1 }
      try client.run("INSERT INTO t VALUES (6)")
      try client.run("COMMIT")
    }
  }

  @Test func theOneUnusedLongestMakesRoom() async throws {
    try await withDataNode(try TestDirectory(), openMax: 3) { (node) async throws in
      let clients = try (0..<8).map { _ in try node.connect() }
      for (number, client) in clients.enumerated() {
        try client.command(".db create d\(number)")
        try eventually("room") { node.openCount <= 3 }
      }
      // Each has its database, as long as it holds it.
      for number in 0..<3 {
        try clients[number].command(".use d\(number)")
        try clients[number].run("BEGIN")
      }
      let refused = try clients[7].query("SELECT 1", [], [("db", "d7")])
      #expect(refused.error == "OVERLOADED")
      #expect(refused.retry)
      try clients[0].run("COMMIT")
    }
  }

  /// Whoever asks for a database that is just being closed needs room as anybody does.
  @Test func whatIsBeingClosedNeedsRoomToComeBack() async throws {
    try await withDataNode(try TestDirectory(), openMax: 1) { (node) async throws in
      let client = try node.connect()
      let names = ["a", "b"]
      for name in names { try client.command(".db create \(name)") }
      for round in 0..<100 {
        let holder = try node.connect()
        let other = try node.connect()
        try eventually("room") { try node.connect().request(".use a").error == nil }
        // Both keep what they get, so one of them gets nothing.
        let (first, second) = round % 2 == 0 ? (holder, other) : (other, holder)
        try first.send(".use b\n")
        try second.send(".use a\n")
        let codes = try [first.receive().error, second.receive().error]
        #expect(codes.contains("OVERLOADED"), "\(codes)")
      }
    }
  }

  @Test func commitsOfOtherProgramsAreSeen() async throws {
    let directory = try TestDirectory()
    let sqlite = try #require(Program(named: "sqlite3"))
    try await withDataNode(directory, idleMilliseconds: 50) { (node) async throws in
      let client = try node.connect()
      try client.command(".db create a")
      try client.run("CREATE TABLE t(v)", in: "a")
      try eventually("the database closed") { node.openCount == 0 }
      let result = try sqlite.run([directory.file("a.db"), "INSERT INTO t VALUES (7)"])
      #expect(result.succeeded)
      let other = try node.connect()
      #expect(try other.run("SELECT v FROM t", in: "a").integer == 7)
      // While it is open, they are captured as they come.
      try other.command(".use a")
      try other.run("BEGIN")
      #expect(try sqlite.run([directory.file("a.db"), "INSERT INTO t VALUES (8)"]).succeeded)
      try other.run("COMMIT")
      #expect(try other.integer("SELECT max(v) FROM t") == 8)
    }
  }

  // MARK: Drop and fork

  @Test func aDroppedDatabaseIsGone() async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory) { (node) async throws in
      let (client, idle) = (try node.connect(), try node.connect())
      for name in ["a", "keep"] {
        try client.command(".db create \(name)")
        try client.run("CREATE TABLE t(v)", in: name)
      }
      try idle.command(".use a")
      try idle.run("SELECT * FROM t")
      try client.command(".db drop a")
      #expect(try client.databases == ["keep"])
      #expect(!Files.names(in: directory.path).contains { $0.hasPrefix("a.") })
      #expect(try idle.query("SELECT 1").error == "DATABASE_NOT_FOUND")
      #expect(try client.request(".db drop a").error == "DATABASE_NOT_FOUND")
      try client.run("INSERT INTO t VALUES (1)", in: "keep")
      // The name can be taken again, and nothing of the former one comes back.
      try client.command(".db create a")
      #expect(try client.query("SELECT * FROM t", [], [("db", "a")]).error == "SQLITE_ERROR")
      // Who has seen the former one is told so, once.
      #expect(try idle.query("SELECT 1").error == "TOKEN_EPOCH")
      #expect(try idle.query("SELECT 1").error == nil)
    }
  }

  @Test func aTransactionKeepsItsDatabaseFromBeingDropped() async throws {
    try await withDataNode(try TestDirectory()) { (node) async throws in
      let (holder, client) = (try node.connect(), try node.connect())
      try holder.command(".db create a")
      try holder.command(".use a")
      try holder.run("CREATE TABLE t(v)")
      try holder.run("BEGIN")
      try holder.run("SELECT * FROM t")
      let refused = try client.request(".db drop a")
      #expect(refused.error == "SQLITE_BUSY")
      #expect(refused.retry)
      try holder.run("INSERT INTO t VALUES (1)")
      try holder.run("COMMIT")
      #expect(try client.run("SELECT count(*) FROM t", in: "a").integer == 1)
      try client.command(".db drop a")
    }
  }

  @Test func aForkIsADatabaseOfItsOwn() async throws {
    let directory = try TestDirectory()
    try await withDataNode(directory, idleMilliseconds: 100) { (node) async throws in
      let client = try node.connect()
      try client.command(".db create a")
      try client.run("CREATE TABLE t(v)", in: "a")
      for number in 1...20 { try client.run("INSERT INTO t VALUES (\(number))", in: "a") }
      let token = try #require(try client.run("SELECT count(*) FROM t", in: "a").token)
      try client.command(".db fork a b")
      #expect(try client.request(".db fork a b").error == "DATABASE_EXISTS")
      #expect(try client.request(".db fork nowhere c").error == "DATABASE_NOT_FOUND")
      try client.run("DELETE FROM t WHERE v > 5", in: "a")
      #expect(try client.run("SELECT count(*) FROM t", in: "b").integer == 20)
      let strange = try client.query(
        "SELECT 1", [], [("db", "b"), ("token", .string(token))])
      #expect(strange.error != nil)
      try eventually("closed") { node.openCount == 0 }
    }
    try samePagesAreSound(directory.file("b.db"))
  }

  /// A fork is of one moment, whatever is committed meanwhile: each commit moves money and keeps
  /// the sum.
  @Test func aForkUnderWritesIsOfOneMoment() async throws {
    try await withDataNode(try TestDirectory()) { (node) async throws in
      let (client, busy) = (try node.connect(), try node.connect())
      try client.command(".db create a")
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v, pad)", in: "a")
      for number in 0..<50 {
        try client.run("INSERT INTO t VALUES (\(number), 100, zeroblob(3000))", in: "a")
      }
      for round in 0..<10 {
        let moves = (0..<20).map { step in
          "UPDATE t SET v = v + CASE id WHEN \(step) THEN 1 ELSE -1 END WHERE id IN (\(step), \(step + 20))"
        }
        for move in moves { try busy.send(LineConnection.line(move, [], [("db", "a")]) + "\n") }
        try client.command(".db fork a f\(round)")
        #expect(try client.run("SELECT sum(v) FROM t", in: "f\(round)").integer == 5000)
        for _ in moves { _ = try busy.receive() }
      }
    }
  }

  private static var openFiles: [String] {
    Files.names(in: "/proc/self/fd").compactMap { Files.target(of: "/proc/self/fd/\($0)") }
  }

  private func samePagesAreSound(_ path: String) throws {
    let report = try PageComparison(path: path).integrityCheck()
    #expect(report == ["ok"])
  }
}
