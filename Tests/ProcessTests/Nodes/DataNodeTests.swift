// A node of many databases as a program: its commands, what thousands of idle databases cost, and
// kill -9 while databases are made, copied and removed.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct DataNodeTests {
    private func node(_ directory: TestDirectory, _ more: [String] = []) throws -> NodeProcess {
      try NodeProcess(
        .primary, in: directory, database: "data", arguments: ["--data"] + more, ships: false)
    }

    @Test func theCommandsWork() throws {
      let directory = try TestDirectory()
      let node = try node(directory)
      let program = try Program.edgeSQL()
      let at = ["--at", "127.0.0.1:\(node.listenPort)"]
      func db(_ words: String...) throws -> Program.Result {
        try program.run(["db"] + words + at)
      }
      #expect(try db("create", "first").output == "first: created\n")
      #expect(try db("create", "first").status == .exited(1))
      let query = ["query", "127.0.0.1:\(node.listenPort)", "--database", "first", "--mode", "csv"]
      #expect(try program.run(query + ["CREATE TABLE t(v); INSERT INTO t VALUES (5)"]).succeeded)
      #expect(try db("fork", "first", "second").succeeded)
      #expect(try db("list").output == "first\nsecond\n")
      #expect(try db("drop", "first").output == "first: dropped\n")
      #expect(try db("list").output == "second\n")
      for name in ["../x", "A", ""] { #expect(try db("create", name).status == .exited(64)) }
      #expect(try node.report()["databases"] == 1)
      #expect(try node.terminate() == .exited(0))
    }

    @Test func filesAndFoldersDoNotMix() throws {
      let directory = try TestDirectory()
      let program = try Program.edgeSQL()
      let both = try program.run(
        ["primary", "--data", directory.file("d"), "--db", directory.file("x.db")])
      #expect(both.status == .exited(78))
      let list = try program.run(
        ["replica", "--data", directory.file("d"), "--upstream", "127.0.0.1:1", "--databases", "A"])
      #expect(list.status == .exited(78))
      let file = try directory.write("file", "x")
      #expect(try program.run(["primary", "--data", file, "--http", "off"]).status == .exited(73))
      #expect(!Files.exists(directory.file("x.db")))
      let node = try node(directory)
      let second = try program.run(
        ["primary", "--data", node.database, "--listen", "127.0.0.1:0", "--http", "off"])
      #expect(second.status == .exited(75))
      #expect(try node.connect().request(".db create a").error == nil)
    }

    @Test func databasesOverHTTP() throws {
      let directory = try TestDirectory()
      let node = try NodeProcess(
        .primary, in: directory, database: "data", arguments: ["--data"], ships: false,
        speaksHTTP: true)
      func status(_ method: String, _ path: String) throws -> Int {
        try node.http(method, path).status
      }
      #expect(try node.http("GET", "/health").status == 200)
      #expect(try status("POST", "/v1/databases/app") == 200)
      #expect(try status("POST", "/v1/databases/app") == 409)
      for name in ["A", "a.b", "%2e%2e", "a%2fb"] {
        #expect(try status("POST", "/v1/databases/\(name)") == 400, "\(name)")
      }
      let body = #"{"stmt":{"sql":"CREATE TABLE t(v)"}}"#
      let insert = #"{"stmt":{"sql":"INSERT INTO t VALUES (1)"}}"#
      #expect(
        try node.http("POST", "/v1/execute", body, headers: ["x-namespace: app"]).status == 200)
      #expect(try node.http("POST", "/dev/app/v1/execute", insert).status == 200)
      #expect(try node.http("POST", "/dev/other/v1/execute", insert).status == 404)
      #expect(try node.http("POST", "/v1/execute", insert).status == 404)
      #expect(try status("POST", "/v1/databases/app/fork/copy") == 200)
      #expect(try status("POST", "/v1/databases/none/fork/more") == 404)
      let names = try node.http("GET", "/v1/databases").json["databases"]?.elements
      #expect(names?.compactMap(\.text) == ["app", "copy"])
      #expect(try status("DELETE", "/v1/databases/app") == 200)
      #expect(try status("DELETE", "/v1/databases/app") == 404)
      let count = #"{"stmt":{"sql":"SELECT count(*) FROM t"}}"#
      #expect(try node.http("POST", "/dev/copy/v1/execute", count).status == 200)
      #expect(try node.http("POST", "/dev/app/v1/execute", count).status == 404)
    }

    /// What a client may not read is to it as if it were not there, and is not opened for it.
    @Test func rightsAreThoseToEachDatabase() async throws {
      let directory = try TestDirectory()
      let tokens = try await TestTokens()
      let node = try NodeProcess(
        .primary, in: directory, database: "data",
        arguments: ["--data", "--auth-jwt-key-file", try tokens.keyFile(in: directory)],
        ships: false, speaksHTTP: true)
      let end = "\"exp\":\(TestTokens.nowSeconds + 3600)"
      let operatorToken = try tokens.signed("{\"a\":\"admin\",\(end)}")
      let tenantToken = try tokens.signed("{\"p\":{\"rw\":{\"ns\":[\"mine\"]}},\(end)}")
      func connect(_ token: String) throws -> LineConnection {
        let client = try node.connect()
        #expect(try client.request("{\"auth\":\"\(token)\"}").error == nil)
        return client
      }
      let stranger = try node.connect()
      for line in [".databases", ".db create x", ".use mine", "SELECT 1"] {
        #expect(try stranger.request(line).error == "AUTH_REQUIRED", "\(line)")
      }
      let admin = try connect(operatorToken)
      for name in ["mine", "theirs"] {
        #expect(try admin.request(".db create \(name)").error == nil)
      }
      let tenant = try connect(tenantToken)
      #expect(try tenant.request(".databases").json["databases"]?.elements == ["mine"])
      #expect(try tenant.query("CREATE TABLE t(v)", [], [("db", "mine")]).error == nil)
      for name in ["theirs", "none"] {
        let answer = try tenant.query("SELECT 1", [], [("db", .string(name))])
        #expect(answer.error == "DATABASE_NOT_FOUND")
        #expect(try tenant.request(".use \(name)").error == "DATABASE_NOT_FOUND")
        #expect(try tenant.request(".db drop \(name)").error == "AUTH_DENIED")
      }
      for line in ["create new", "drop mine", "fork mine new"] {
        #expect(try tenant.request(".db \(line)").error == "AUTH_DENIED", "\(line)")
      }
      let bearer = ["Authorization: Bearer \(tenantToken)"]
      #expect(try node.http("GET", "/v1/databases").status == 401)
      #expect(try node.http("POST", "/v1/databases/x").status == 401)
      #expect(
        try node.http("GET", "/v1/databases", headers: bearer).body.contains("theirs") == false)
      #expect(try node.http("DELETE", "/v1/databases/mine", headers: bearer).status == 403)
      #expect(try node.http("GET", "/dev/theirs/dump", headers: bearer).status == 404)
      #expect(try node.http("GET", "/dev/mine/dump", headers: bearer).status == 200)
      #expect(try admin.request(".databases").json["databases"]?.elements == ["mine", "theirs"])
    }

    /// What a closed database costs is a name.
    @Test func fiveThousandIdleDatabases() throws {
      let count = 5000
      let directory = try TestDirectory()
      let empty = try node(directory, ["--database-idle", "100ms"])
      _ = try empty.connect().request(".databases")
      let (threads, files) = (Self.threads(empty), empty.openFiles)
      let memory = empty.memoryBytes("VmRSS")
      #expect(try empty.connect().request(".db create d0").error == nil)
      try eventually("closed") { try empty.report()["open"] == 0 }
      try empty.terminate()
      let bytes = try Files.read(directory.file("data/d0.db"))
      for number in 1..<count { try directory.write("data/d\(number).db", bytes) }

      try empty.start()
      let client = try empty.connect()
      #expect(try empty.report()["databases"] == .integer(Int64(count)))
      #expect(try client.request(".databases").json["databases"]?.elements.count == count)
      // Some are used, and idle again.
      for number in stride(from: 1, to: count, by: count / 40) {
        try client.run("CREATE TABLE t(v)", [], [("db", .string("d\(number)"))])
      }
      try eventually("closed") { try empty.report()["open"] == 0 }
      try eventually("\(Self.threads(empty)) threads, \(threads) before") {
        Self.threads(empty) <= threads + 4
      }
      // Connections of the questions above may not have been closed yet.
      try eventually("\(empty.openFiles) files, \(files) before") { empty.openFiles <= files + 4 }
      // A sanitizer keeps what was freed.
      guard Deadline.patience == 1 else { return }
      // 2 KB for each, and room for what forty opened ones leave in the allocator.
      let grown = empty.memoryBytes("VmRSS") - memory
      #expect(grown < count * 2048 + 24 << 20, "\(grown / count) bytes for each")
    }

    private static func threads(_ node: NodeProcess) -> Int {
      Files.names(in: "/proc/\(node.pid)/task").count
    }

    /// After each kill a database is there as a whole or gone, what was answered holds, and no
    /// leftovers are in the way of a name.
    @Test func killedWhileDatabasesChange() throws {
      let directory = try TestDirectory()
      let node = try node(directory)
      let setup = try node.connect()
      #expect(try setup.request(".db create base").error == nil)
      try setup.run("CREATE TABLE t(v)", [], [("db", "base")])
      for number in 0..<200 {
        try setup.run("INSERT INTO t VALUES (zeroblob(\(number * 20)))", [], [("db", "base")])
      }
      var random = SeededGenerator(seed: 9)
      var known: Set<String> = []
      for round in 0..<24 {
        let (client, other) = (try node.connect(), try node.connect())
        var unsure: Set<String> = []
        for step in 0..<6 {
          let name = "r\(round)-\(step)"
          let line =
            switch step % 3 {
            case 0: ".db create \(name)"
            case 1: ".db fork base \(name)"
            default: known.randomElement(using: &random).map { ".db drop \($0)" } ?? ".ping"
            }
          let subject = step % 3 == 2 ? String(line.split(separator: " ").last ?? "") : name
          try client.send(line + "\n")
          if round % 6 == step {
            // Some way into the change.
            let pings = Int.random(in: 0...60, using: &random)
            for _ in 0..<pings { _ = try other.request(".ping") }
            unsure.insert(subject)
            break
          }
          let answer = try client.receive()
          #expect(answer.error == nil, "\(line): \(answer.message)")
          if step % 3 == 2 { known.remove(subject) } else { known.insert(name) }
        }
        node.kill()
        try node.start()
        let after = try node.connect()
        let names = Set(
          try after.request(".databases").json["databases"]?.elements.compactMap(\.text) ?? [])
        #expect(names.subtracting(unsure) == known.union(["base"]).subtracting(unsure))
        for name in unsure.union(known.prefix(3)) where names.contains(name) {
          let tables = try after.run(
            "SELECT count(*) FROM sqlite_schema", [], [("db", .string(name))]
          ).integer
          guard tables == 1 else { continue }
          #expect(
            try after.run("SELECT count(*) FROM t", [], [("db", .string(name))]).integer == 200)
        }
        for name in unsure where !names.contains(name) {
          #expect(try after.request(".db create \(name)").error == nil)
        }
        known.formUnion(unsure)
        known.remove(".ping")
      }
    }
  }
}
