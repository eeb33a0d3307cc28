// What nobody can do, by whatever route and on whichever role: leave the database, or break the node.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct LockedDownTests {
    private func cluster() throws -> Cluster {
      let arguments = ["--http", "127.0.0.1:0"]
      let cluster = try Cluster(primaryArguments: arguments, replicaArguments: arguments)
      try cluster.primary.connect().run("CREATE TABLE t(a)")
      try cluster.settle()
      return cluster
    }

    /// All ways to say a statement; each answer as text.
    private func ask(_ node: NodeProcess, _ sql: String) throws -> [(route: String, text: String)] {
      let client = try HTTPClient(port: node.httpPort)
      let step = #"{"stmt":{"sql":"\#(sql)"}}"#
      let requests = [
        ("POST /v1/execute", step), ("POST /v1/batch", #"{"batch":{"steps":[\#(step)]}}"#),
        (
          "POST /v2/pipeline",
          #"{"requests":[{"type":"execute",\#(step.dropFirst()),{"type":"close"}]}"#
        ),
        (
          "POST /v3/pipeline",
          #"{"requests":[{"type":"sequence","sql":"SELECT 1; \#(sql)"},{"type":"close"}]}"#
        ),
        ("POST /v3/cursor", #"{"batch":{"steps":[\#(step)]}}"#),
        ("POST /", #"{"statements":["\#(sql)"]}"#),
      ]
      var answers: [(String, String)] = []
      for (line, body) in requests {
        let words = line.split(separator: " ").map(String.init)
        answers.append((line, try client.request(words[0], words[1], body).text))
      }
      let connection = try node.connect()
      answers.append(("line", "\(try connection.query(sql).json)"))
      answers.append(("batch", "\(try connection.request(#"{"batch":[{"sql":"\#(sql)"}]}"#).json)"))
      let socket = try WebSocketClient(port: node.httpPort)
      for text in [
        #"{"type":"hello","jwt":null}"#,
        #"{"type":"request","request_id":1,"request":{"type":"open_stream","stream_id":1}}"#,
        #"{"type":"request","request_id":2,"request":{"type":"execute","stream_id":1,\#(step.dropFirst())}"#,
      ] { try socket.send(text) }
      for _ in 0..<2 { _ = try socket.message() }
      answers.append(("WebSocket", "\(try socket.message())"))
      return answers
    }

    @Test func row43_nothingLeavesTheDatabase() throws {
      let cluster = try cluster()
      let outside = cluster.directory.file("outside")
      let statements = [
        "ATTACH '\(outside)' AS x", "/* a */ ATTACH DATABASE '\(outside)' AS x",
        "aTtAcH/**/'\(outside)'/**/AS/**/x", "VACUUM INTO '\(outside)'",
        "VACUUM main INTO '\(outside)'", "DETACH main", "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple')", "SELECT readfile('/etc/passwd')",
        "SELECT writefile('\(outside)', 'x')", "PRAGMA writable_schema = ON",
        "PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = OFF",
        "PRAGMA temp_store_directory = '/tmp'", "PRAGMA trusted_schema = ON",
        "PRAGMA mmap_size = 100000000", "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA cache_size = 1000000000",
        "SELECT * FROM pragma_wal_checkpoint", "PRAGMA journal_mode('delete')",
        "CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')",
        "UPDATE sqlite_schema SET sql = 'x'", "INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)",
        "DELETE FROM sqlite_schema",
      ]
      let files = Set(Files.names(in: cluster.directory.path))
      for node in cluster.nodes {
        for sql in statements {
          for (route, text) in try ask(node, sql) {
            let isRefused =
              text.contains("not allowed") || text.contains("NOT_ALLOWED")
              || text.contains("SQLITE_AUTH") || text.contains("not authorized")
              || text.contains("no such") || text.contains("within a transaction")
              || text.contains("may not be modified")
            #expect(isRefused, "\(node.role) \(route): \(sql): \(text.prefix(300))")
          }
        }
        // A trigger, a view and a CTE do it for nobody either.
        let client = try node.connect()
        for sql in [
          "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT load_extension('x'); END",
          "CREATE VIEW v\(node.role) AS SELECT * FROM pragma_wal_checkpoint",
          "WITH a AS (SELECT * FROM pragma_wal_checkpoint) SELECT * FROM a",
        ] {
          let made = try client.query(sql)
          guard made.error == nil else { continue }
          let used =
            sql.contains("TRIGGER") ? "INSERT INTO t VALUES (1)" : "SELECT * FROM v\(node.role)"
          #expect(try client.query(used).error != nil, "\(sql)")
        }
      }
      let more = Set(Files.names(in: cluster.directory.path)).subtracting(files)
      #expect(
        more.allSatisfy { $0.hasPrefix("primary.db") || $0.hasPrefix("replica0.db") }, "\(more)")
      try cluster.requireEqual()
    }

    @Test func row44_namesLeadNowhere() throws {
      let directory = try TestDirectory()
      try directory.write("secret.db", "not yours")
      let node = try NodeProcess(
        .primary, in: directory, database: "data", arguments: ["--data"], ships: false,
        speaksHTTP: true)
      let line = try node.connect()
      #expect(try line.request(".db create good").error == nil)
      let before = Files.names(in: directory.path).sorted()
      let body = #"{"stmt":{"sql":"CREATE TABLE x(a)"}}"#
      for name in [
        "../secret", "..", ".", "..%2fsecret", "%2e%2e%2fsecret", "good/../../secret",
        "/etc/passwd",
        "good%00", "GOOD", "gööd", "good.db", String(repeating: "a", count: 65), "a b", "-", "~",
        "good;", "..\\secret", "con:", "good-wal",
      ] {
        // `-` and `good-wal` may be names, but of nothing that is there.
        let client = try HTTPClient(port: node.httpPort)
        let byPath = try client.request(
          "POST", "/dev/\(name.replacing(" ", with: "%20"))/v1/execute", body)
        #expect([400, 404, 405].contains(byPath.status), "\(name): \(byPath.status)")
        let header = try HTTPClient(port: node.httpPort).request(
          "POST", "/v1/execute", body, headers: ["x-namespace: \(name)"])
        #expect([400, 404].contains(header.status), "\(name): \(header.status) \(header.text)")
        let used = try line.request(".use \(name)")
        #expect(used.error != nil, "\(name)")
        let chosen = try line.query("SELECT 1", [], [("db", .string(name))])
        #expect(chosen.error != nil, "\(name)")
        guard name != "-", name != "good-wal" else { continue }
        #expect(try line.request(".db create \(name)").error != nil, "\(name)")
        let made = try HTTPClient(port: node.httpPort).request(
          "POST", "/v1/databases/\(name.replacing(" ", with: "%20"))")
        #expect([400, 404, 405].contains(made.status), "\(name): \(made.status) \(made.text)")
      }
      for host in ["../secret.example.org", "..example.org", "%2e%2e.example.org"] {
        let client = try HTTPClient(port: node.httpPort)
        try client.send(
          "POST /v1/execute HTTP/1.1\r\nHost: \(host)\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
            + body)
        #expect([400, 404].contains(try client.answer().status), "\(host)")
      }
      #expect(Files.names(in: directory.path).sorted() == before)
      #expect(Files.text(directory.file("secret.db")) == "not yours")
      // Files of a database are not databases of their own.
      #expect(
        Set(Files.names(in: directory.file("data"))).allSatisfy {
          !$0.contains("secret") && !$0.contains("..db")
        })
      #expect(node.isRunning)
    }

    /// Garbage, and what only begins like something, on every port of both roles.
    @Test func row40_garbageOnEveryPort() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", speaksHTTP: true)
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], speaksHTTP: true)
      try replica.connect().run("CREATE TABLE t(v)")
      var random = SeededGenerator(seed: 40)
      let deep = String(repeating: "[", count: 100_000)
      let long = String(repeating: "a", count: 3 << 20)
      let beginnings: [String] = [
        "", "POST /v1/execute HTTP/1.1\r\nContent-Length: 100000\r\n\r\n\(deep)",
        "POST /v2/pipeline HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET /\(long) HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\(long): x\r\n\r\n", deep, long,
        "{\"sql\":\(deep)", "\u{16}\u{3}\u{1}\u{2}\u{0}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
          + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "edge-sql", "\u{0}\u{0}\u{0}\u{ff}",
      ]
      for node in [primary, replica] {
        for port in [node.listenPort, node.httpPort, node.shipPort] {
          for round in 0..<39 {
            let client = try HTTPClient(port: port)
            _ = client.trySend(bytes: Array(beginnings[round % beginnings.count].utf8))
            _ = client.trySend(bytes: random.bytes(.random(in: 0...30_000, using: &random)))
            client.finishSending()
            // Whatever it is, the node ends it.
            _ = try? client.readRest()
          }
        }
        #expect(node.isRunning)
        #expect(try node.connect().integer("SELECT count(*) FROM t") == 0)
        #expect(try HTTPClient(port: node.httpPort).request("GET", "/health").status == 200)
        note("\(node.memoryBytes() >> 20) MiB at most, after garbage on all ports")
        #expect(node.memoryBytes() < 400 << 20)
      }
      // The nodes still follow each other.
      try replica.connect().run("INSERT INTO t VALUES (1)")
      #expect(try replica.connect().integer("SELECT count(*) FROM t") == 1)
    }
  }
}
