// The commands beside the nodes, as people and scripts run them.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct CommandTests {
    private func run(
      _ arguments: String..., input: String = "", expecting code: Int32 = 0,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Program.Result {
      let result = try Program.edgeSQL().run(arguments, input: input, deadline: .seconds(60))
      #expect(
        result.status == .exited(code),
        "\(arguments): \(result.status)\n\(result.output)\(result.error)",
        sourceLocation: sourceLocation)
      return result
    }

    @Test func query() throws {
      let cluster = try Cluster()
      let primary = "127.0.0.1:\(cluster.primary.listenPort)"
      let replica = "127.0.0.1:\(cluster.replica.listenPort)"
      _ = try run("query", primary, "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT)")
      let wrote = try run(
        "query", replica, "INSERT INTO people(name) VALUES (?)", "--show-token", "--args", "Ada")
      let token = try #require(wrote.error.split(separator: "\n").last.map(String.init))
      let read = try run(
        "query", primary, "SELECT * FROM people", "--token", token, "--mode", "csv")
      #expect(read.output.contains("1,Ada"), "\(read.output)")
      let json = try run(
        "query", replica, "SELECT name FROM people WHERE id = :id", "--json-args", #"{"id":1}"#,
        "--mode", "json")
      #expect(try JSONValue.parse(json.output.trimmed)["rows"]?[0]?[0] == "Ada")
      let piped = try run(
        "query", primary,
        input: "INSERT INTO people(name) VALUES ('B');\nSELECT count(*) FROM people;\n")
      #expect(piped.output.contains("2"), "\(piped.output)")
      let error = try run("query", primary, "SELEC 1", expecting: 1)
      #expect(error.output.isEmpty && error.error.contains("SELEC"))
      _ = try run("query", primary, "SELECT 1", "--token", "nonsense", expecting: 1)
    }

    @Test func status() throws {
      let cluster = try Cluster()
      let primary = "127.0.0.1:\(cluster.primary.listenPort)"
      let replica = "127.0.0.1:\(cluster.replica.listenPort)"
      let text = try run("status", primary).output
      #expect(text.contains("primary") && text.contains("streaming"), "\(text)")
      let json = try JSONValue.parse(try run("status", replica, "--json").output.trimmed)
      #expect(json["role"] == "replica")
      _ = try run("status", replica, "--check")
      _ = try run("status", primary, "--check")
      cluster.link.partition()
      try eventually("the check to fail") {
        try Program.edgeSQL().run(["status", replica, "--check"]).status == .exited(3)
      }
    }

    @Test func verifyFindsAFlippedBit() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)")
      try client.run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 300) "
          + "INSERT INTO t SELECT i, randomblob(3000) FROM s")
      try cluster.settle()
      let same = try run("verify", cluster.primary.database, cluster.replica.database)
      #expect(same.output.contains("the same"), "\(same.output)")
      _ = try run("verify", cluster.primary.database)
      _ = try run("verify", cluster.replica.database)
      try cluster.replica.terminate()
      _ = try run("verify", cluster.replica.database)
      // Whatever the WAL still holds hides the page in the file: let SQLite copy it first.
      try copyLog(cluster.replica.database)
      try Files.flipBit(cluster.replica.database, at: 4096 * 150 + 2000)
      let found = try run("verify", cluster.replica.database, "--fast", expecting: 65)
      #expect(found.output.contains("page 151"), "\(found.output)")
      let differ = try run(
        "verify", cluster.primary.database, cluster.replica.database, expecting: 65)
      #expect(differ.output.contains("page 151"), "\(differ.output)")
      _ = try run("verify", try cluster.directory.write("text", "no database"), expecting: 65)
    }

    private func copyLog(_ path: String) throws {
      let connection = try Connection(path: path, mode: .readWrite)
      _ = try connection.query("PRAGMA wal_checkpoint(PASSIVE)")
    }

    @Test func inspect() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(a)")
      let token = try cluster.primary.connect().run("INSERT INTO t VALUES (1)").token ?? ""
      try cluster.settle()
      let shown = try run("inspect", "token", token, "--json")
      #expect(try JSONValue.parse(shown.output.trimmed)["txid"]?.integer == cluster.primary.txid())
      for database in [cluster.primary.database, cluster.replica.database] {
        #expect(!(try run("inspect", "wal", database + "-wal").output.isEmpty))
        #expect(!(try run("inspect", "pagemap", database + "-pagemap").output.isEmpty))
        _ = try run("inspect", "wal", database, expecting: 65)
        _ = try run("inspect", "pagemap", database, expecting: 65)
      }
      _ = try run("inspect", "wal", cluster.directory.file("missing"), expecting: 69)
    }

    @Test func doctor() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      let result = try Program.edgeSQL().run(["doctor", "--db", primary.database])
      #expect(result.output.contains("SQLite"), "\(result.status) \(result.output) \(result.error)")
    }

    @Test func bench() throws {
      let cluster = try Cluster()
      let primary = "127.0.0.1:\(cluster.primary.listenPort)"
      let replica = "127.0.0.1:\(cluster.replica.listenPort)"
      let lag = try run(
        "bench", "lag", "--primary", primary, "--replica", replica, "--samples", "100")
      note("bench lag, debug build: \(lag.output.split(separator: "\n").joined(separator: " | "))")
      _ = try run(
        "bench", "lag", "--primary", primary, "--replica", replica, "--samples", "20", "--json")
      _ = try run("bench", "read", replica, "--seconds", "0.5", "--connections", "2", "--json")
      _ = try run("bench", "write", primary, "--seconds", "0.5", "--connections", "2", "--json")
      let plot = cluster.directory.file("bench.svg")
      let all = try run(
        "bench", "--primary", primary, "--replica", replica, "--samples", "20", "--seconds", "0.3",
        "--connections", "2", "--plot", plot)
      for part in ["visible at the replica", "read at the replica", "write through the replica"] {
        #expect(all.output.contains(part), "\(all.output)")
      }
      #expect(all.error.isEmpty, "nothing is drawn where there is no terminal: \(all.error)")
      let drawn = try String(decoding: Disk.readPrefix(of: plot, count: 1 << 20), as: UTF8.self)
      #expect(drawn.split(separator: "<polyline").count == 8)
      #expect(
        try cluster.primary.connect().integer(
          "SELECT count(*) FROM sqlite_schema WHERE name = 'edge_bench'") == 0)
      try cluster.requireEqual()
    }

    @Test func row56_gracefulStop() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      let load = WriteLoad(ports: [cluster.primary.listenPort], threads: 2)
      try eventually("some writes") { load.acknowledgedCount > 50 }
      #expect(try cluster.primary.terminate() == .exited(0))
      #expect(try cluster.replica.terminate() == .exited(0))
      let outcome = try load.stop()
      try cluster.primary.start()
      try cluster.replica.start()
      try cluster.requireEqual()
      #expect(try outcome.problems(in: cluster.primary.database) == [])
      #expect(try cluster.primary.report()["epoch"]?.integer == 1)
    }
  }
}

extension String {
  /// Without the line end.
  fileprivate var trimmed: String { split(separator: "\n").first.map(String.init) ?? "" }
}
