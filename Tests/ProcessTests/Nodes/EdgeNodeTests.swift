// Many databases at replicas as users run them: kill -9 on either side, rights, HTTP, the secret.

import EdgeTesting
import Glibc
import Serving
import Testing

extension NodeTests {
  @Suite struct EdgeNodeTests {
    private func primary(
      _ directory: TestDirectory, _ more: [String] = [], speaksHTTP: Bool = false
    ) throws -> NodeProcess {
      try NodeProcess(
        .primary, in: directory, database: "primary", arguments: ["--data"] + more,
        speaksHTTP: speaksHTTP)
    }

    private func replica(
      of port: Int, _ directory: TestDirectory, _ more: [String] = [], speaksHTTP: Bool = false
    ) throws -> NodeProcess {
      try NodeProcess(
        .replica, in: directory, database: "replica",
        arguments: ["--data", "--upstream", "127.0.0.1:\(port)"] + more, ships: false,
        speaksHTTP: speaksHTTP)
    }

    private func count(_ name: String, at node: NodeProcess) -> Int64? {
      try? node.connect().query("SELECT count(*) FROM t", [], [("db", .string(name))]).integer
    }

    private func create(_ names: [String], at node: NodeProcess) throws {
      let client = try node.connect()
      for name in names {
        #expect(try client.request(".db create \(name)").error == nil)
        try client.run("CREATE TABLE t(v)", [], [("db", .string(name))])
      }
    }

    /// kill -9 of the replica at any moment, in the middle of copies, catch-up and removals.
    @Test func aReplicaIsKilled() throws {
      let directory = try TestDirectory()
      let primary = try primary(directory, ["--database-idle", "200ms"])
      let names = (0..<6).map { "d\($0)" }
      try create(names, at: primary)
      let replica = try replica(of: primary.shipPort, directory, ["--database-idle", "200ms"])
      let client = try primary.connect()
      var rows = [String: Int64]()
      var random = SeededGenerator(seed: 4)
      for round in 0..<14 {
        let extra = "x\(round)"
        #expect(try client.request(".db fork \(names[round % 6]) \(extra)").error == nil)
        rows[extra] = rows[names[round % 6]] ?? 0
        for _ in 0..<Int.random(in: 5...60, using: &random) {
          let name = names[Int.random(in: 0..<6, using: &random)]
          let size = Int.random(in: 0...20_000, using: &random)
          try client.run("INSERT INTO t VALUES (randomblob(\(size)))", [], [("db", .string(name))])
          rows[name, default: 0] += 1
        }
        if round >= 3 {
          #expect(try client.request(".db drop x\(round - 3)").error == nil)
          rows["x\(round - 3)"] = nil
        }
        replica.kill()
        try replica.start()
      }
      let all = rows.keys.sorted()
      try eventually("the replica has what the primary has", deadline: .seconds(120)) {
        let found = try replica.connect().request(".databases").json["databases"]?.elements
        return found?.compactMap(\.text) == all
          && all.allSatisfy { count($0, at: replica) == rows[$0] }
      }
      for name in all {
        try samePages("\(primary.database)/\(name).db", "\(replica.database)/\(name).db")
      }
      let left = Set(
        Files.names(in: replica.database).compactMap { $0.split(separator: ".").first })
      #expect(
        left == Set(all.map { Substring($0) }).union(["edge-sql-catalogue", "edge-sql-lock"]))
      #expect(try replica.terminate() == .exited(0))
    }

    /// Commits that were not shipped before a primary was killed are shipped afterwards, although
    /// nobody asks the primary for that database again.
    @Test func aPrimaryIsKilledBeforeItShipped() throws {
      let directory = try TestDirectory()
      let primary = try primary(directory, ["--database-idle", "60s"])
      try create(["a", "b"], at: primary)
      let link = try FaultProxy(to: primary.shipPort)
      let replica = try replica(of: link.port, directory)
      for name in ["a", "b"] {
        try eventually("\(name) is there") { count(name, at: replica) == 0 }
      }
      for round in 1...5 {
        link.partition()
        let client = try primary.connect()
        try client.run("INSERT INTO t VALUES (\(round))", [], [("db", "a")])
        primary.kill()
        // What is here is read meanwhile.
        #expect(count("a", at: replica) == Int64(round - 1))
        try primary.start()
        link.heal()
        try eventually("round \(round)") { count("a", at: replica) == Int64(round) }
      }
      #expect(count("b", at: replica) == 0)
      try samePages("\(primary.database)/a.db", "\(replica.database)/a.db")
    }

    /// The replica opens nothing of a database that a token is not for, and the primary checks again
    /// what the replica forwards.
    @Test func rightsAreThoseToEachDatabase() async throws {
      let directory = try TestDirectory()
      let tokens = try await TestTokens()
      let secret = try directory.write("secret", "0123456789abcdef0123456789abcdef", mode: 0o600)
      let keys = [
        "--auth-jwt-key-file", try tokens.keyFile(in: directory), "--ship-secret-file", secret,
      ]
      let primary = try primary(directory, keys)
      let end = "\"exp\":\(TestTokens.nowSeconds + 3600)"
      primary.token = try tokens.signed("{\"a\":\"admin\",\(end)}")
      try create(["mine", "theirs"], at: primary)
      let replica = try replica(of: primary.shipPort, directory, keys, speaksHTTP: true)
      replica.token = primary.token
      for name in ["mine", "theirs"] {
        try eventually("\(name) is there") { count(name, at: replica) == 0 }
      }
      let tenantToken = try tokens.signed("{\"p\":{\"rw\":{\"ns\":[\"mine\"]}},\(end)}")
      let readerToken = try tokens.signed("{\"p\":{\"ro\":{\"ns\":[\"mine\"]}},\(end)}")
      replica.token = tenantToken
      let tenant = try replica.connect()
      #expect(try tenant.request(".databases").json["databases"]?.elements == ["mine"])
      #expect(try tenant.query("INSERT INTO t VALUES (1)", [], [("db", "mine")]).error == nil)
      for name in ["theirs", "none"] {
        #expect(
          try tenant.query("SELECT * FROM t", [], [("db", .string(name))]).error
            == "DATABASE_NOT_FOUND")
        #expect(
          try tenant.query("INSERT INTO t VALUES (1)", [], [("db", .string(name))]).error
            == "DATABASE_NOT_FOUND")
      }
      replica.token = readerToken
      let reader = try replica.connect()
      #expect(try reader.query("SELECT v FROM t", [], [("db", "mine")]).integer == 1)
      #expect(
        try reader.query("INSERT INTO t VALUES (2)", [], [("db", "mine")]).error == "AUTH_DENIED")
      replica.token = nil
      let stranger = try replica.connect()
      #expect(try stranger.query("SELECT 1", [], [("db", "mine")]).error == "AUTH_REQUIRED")
      #expect(
        try replica.http(
          "GET", "/dev/theirs/dump", headers: ["Authorization: Bearer \(tenantToken)"]
        ).status == 404)
      // Who does not know the secret gets nothing, of whatever database.
      let other = try directory.write("other", "another secret of enough bytes", mode: 0o600)
      let link = try FaultProxy(to: primary.shipPort)
      let strange = try NodeProcess(
        .replica, in: directory, database: "strange",
        arguments: [
          "--data", "--upstream", "127.0.0.1:\(link.port)", "--ship-secret-file", other,
        ], ships: false)
      try eventually("tries") { link.connections >= 3 }
      #expect(try strange.connect().request(".databases").json["databases"]?.elements == [])
      #expect(strange.errorText.contains("secret"))
    }

    @Test func databasesOverHTTPAtAReplica() throws {
      let directory = try TestDirectory()
      let primary = try primary(directory, speaksHTTP: true)
      try create(["app", "other"], at: primary)
      let replica = try replica(of: primary.shipPort, directory, speaksHTTP: true)
      for name in ["app", "other"] {
        try eventually("\(name) is there") { count(name, at: replica) == 0 }
      }
      let insert = #"{"stmt":{"sql":"INSERT INTO t VALUES (1)"}}"#
      let select = #"{"stmt":{"sql":"SELECT count(*) FROM t"}}"#
      #expect(
        try replica.http("POST", "/v1/execute", insert, headers: ["x-namespace: app"]).status == 200
      )
      #expect(try replica.http("POST", "/dev/app/v1/execute", insert).status == 200)
      let byHost = try HTTPClient(port: replica.httpPort)
      let request = HTTPClient.text("POST", "/v1/execute", insert)
      try byHost.send(request.replacing("Host: localhost", with: "Host: app.example.org"))
      #expect(try byHost.answer().status == 200)
      #expect(count("app", at: replica) == 3)
      #expect(count("other", at: replica) == 0)
      #expect(try replica.http("POST", "/dev/none/v1/execute", select).status == 404)
      #expect(
        try replica.http("GET", "/v1/databases").json["databases"]?.elements == ["app", "other"])
      #expect(count("app", at: primary) == 3)
      // The primary makes and removes them.
      #expect(try replica.http("POST", "/v1/databases/x").status == 200)
      #expect(try replica.http("DELETE", "/v1/databases/app").status == 200)
      for node in [primary, replica] {
        #expect(
          try node.http("GET", "/v1/databases").json["databases"]?.elements == ["other", "x"])
      }
    }

    /// A node with one database and one with many tell each other apart.
    @Test func oneAndManyDoNotMix() throws {
      let directory = try TestDirectory()
      let many = try primary(directory)
      let one = try NodeProcess(.primary, in: directory, database: "one.db")
      let cases = [
        (many.shipPort, [], "replica.db", "follow it with --data"),
        (one.shipPort, ["--data"], "folder", "follow it with --db"),
      ]
      for (port, arguments, database, words) in cases {
        let node = try NodeProcess(
          .replica, in: directory, database: database,
          arguments: arguments + ["--upstream", "127.0.0.1:\(port)"], ships: false, waits: false)
        try eventually("\(words) in \(node.errorText)") { node.errorText.contains(words) }
      }
    }
  }
}
