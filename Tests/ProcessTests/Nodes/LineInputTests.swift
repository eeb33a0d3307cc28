// Input of every kind on the clients' port.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct LineInputTests {
    private func makeNode() throws -> NodeProcess {
      let primary = try NodeProcess(.primary, in: TestDirectory(), database: "p.db")
      try primary.connect().run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
      return primary
    }

    @Test func badLinesGetAnErrorAndTheNextLineWorks() throws {
      let node = try makeNode()
      let client = try node.connect()
      let bad: [(line: String, code: String)] = [
        (#"{"sqll":"SELECT 1"}"#, "PROTOCOL"), (#"{"sql":"SELECT 1","tokn":"x"}"#, "PROTOCOL"),
        (#"{"sql":"SELECT 1""#, "PROTOCOL"), (#"{"sql":7}"#, "PROTOCOL"), ("{}", "PROTOCOL"),
        (#"{"sql":"SELECT 1","sql":"SELECT 2"}"#, "PROTOCOL"), ("[]", "PROTOCOL"),
        ("[1]", "PROTOCOL"),
        (#"{"sql":"SELECT ?","args":[[1]]}"#, "PROTOCOL"),
        (#"{"sql":"SELECT 1","wait_ms":-1}"#, "PROTOCOL"),
        (#"{"sql":"SELECT 1","read":"never"}"#, "PROTOCOL"),
        (#"{"sql":"SELECT 1","db":"other"}"#, "DATABASE_NOT_FOUND"),
        ("SELEC 1", "SQLITE_ERROR"), ("SELECT * FROM missing", "SQLITE_ERROR"),
        (".nonsense", "PROTOCOL"),
        (".use", "PROTOCOL"), ("SELECT 1; BEGIN", "NOT_ALLOWED"),
        ("ATTACH 'x' AS y", "NOT_ALLOWED"),
        ("PRAGMA journal_mode=DELETE", "NOT_ALLOWED"), ("VACUUM INTO '/tmp/x'", "NOT_ALLOWED"),
        (#"["SELECT ?1, ?2",1]"#, "PROTOCOL"), (#"["SELECT 1",1]"#, "PROTOCOL"),
        (String(repeating: "[", count: 5000), "PROTOCOL"), ("\u{1}\u{2}\u{3}", "SQLITE_ERROR"),
      ]
      for (line, code) in bad {
        let answer = try client.request(line)
        let isSQLite = code == "SQLITE_ERROR" && answer.error?.hasPrefix("SQLITE_") == true
        #expect(answer.error == code || isSQLite, "\(line.prefix(60)): \(answer.json)")
        #expect(!answer.message.isEmpty)
        #expect(try client.integer("SELECT 41 + 1") == 42)
      }
      #expect(try client.request(#"{"id":[1],"sql":"SELECT 1"}"#).error != nil)
      #expect(try client.request(#"{"id":"x","sqll":1}"#).json["id"] == "x")
    }

    @Test func linesOverTheLimitAreSkipped() throws {
      let node = try makeNode()
      let client = try node.connect()
      let long = "SELECT '" + String(repeating: "x", count: 1 << 20) + "'\n"
      try client.send(long)
      try client.send("SELECT 1\n")
      #expect(try client.receive().error == "LINE_TOO_LONG")
      #expect(try client.receive().integer == 1)
      let text = String(repeating: "y", count: (1 << 20) - 100)
      #expect(try client.integer("SELECT length('\(text)')") == Int64(text.utf8.count))
    }

    @Test(arguments: [
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v2/pipeline HTTP/1.1\r\n\r\nSELECT 1\n",
      "Host: x\r\nSELECT 1\n", "\u{16}\u{3}\u{1}\u{0}x",
    ])
    func otherProtocolsAreToldAndClosed(_ text: String) throws {
      let node = try makeNode()
      let client = try node.connect()
      try client.send("INSERT INTO t(v) VALUES ('before')\n" + text + "\nDELETE FROM t\n")
      #expect(try client.receive().error == nil)
      #expect(try client.receive().error == "WRONG_PROTOCOL")
      #expect(try client.readLine() == nil)
      #expect(try node.connect().integer("SELECT count(*) FROM t") == 1)
    }

    @Test func row40_garbageDoesNoHarm() throws {
      let node = try makeNode()
      var random = SeededGenerator(seed: 99)
      for _ in 0..<60 {
        let client = try node.connect()
        try? client.send(bytes: random.bytes(.random(in: 1...20_000, using: &random)))
        client.finishSending()
        while try client.readLine() != nil {}
      }
      #expect(try node.connect().integer("SELECT count(*) FROM t") == 0)
      #expect(node.memoryBytes() < 300 << 20)
    }

    @Test func halfCloseStillGetsAllAnswers() throws {
      let node = try makeNode()
      let client = try node.connect()
      let lines = (0..<200).map { $0 % 2 == 0 ? "SELECT \($0)" : "INSERT INTO t(v) VALUES (\($0))" }
      // The last line has no end, as from printf.
      try client.send(lines.joined(separator: "\n"))
      client.finishSending()
      for number in 0..<200 {
        let answer = try client.receive()
        #expect(answer.error == nil)
        if number % 2 == 0 { #expect(answer.integer == Int64(number)) }
      }
      #expect(try client.readLine() == nil)
      if let nc = Program(named: "nc") {
        let result = try nc.run(
          ["-N", "127.0.0.1", "\(node.listenPort)"], input: "SELECT count(*) FROM t\n")
        #expect(result.output.contains("[[100]]"), "\(result.output)")
      }
    }

    @Test func pipelineIsAnsweredInOrder() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
      for node in [cluster.primary, cluster.replica] {
        let client = try node.connect()
        try client.run("DELETE FROM t")
        let lines = (0..<1000).map { number in
          switch number % 4 {
          case 0: #"{"id":\#(number),"sql":"INSERT INTO t VALUES (\#(number), 1)"}"#
          case 1: #"{"id":\#(number),"sql":"SELECT count(*) FROM t"}"#
          case 2: #"{"id":\#(number),"sql":"SELEC"}"#
          default: #"{"id":\#(number),"batch":[{"sql":"SELECT 1"},{"sql":"SELECT \#(number)"}]}"#
          }
        }
        try client.send(lines.joined(separator: "\n") + "\n")
        for number in 0..<1000 {
          let answer = try client.receive()
          #expect(answer.json["id"] == .integer(Int64(number)))
          switch number % 4 {
          case 0: #expect(answer.error == nil, "\(answer.json)")
          case 1: #expect(answer.integer == Int64(number / 4 + 1))
          case 2: #expect(answer.error == "SQLITE_ERROR")
          default: #expect(answer.json["results"]?.elements.count == 2)
          }
        }
      }
    }

    /// A client that reads slowly has its rows made as slowly, and others do not feel it.
    @Test func largeResultIsStreamed() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
      try cluster.primary.connect().run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 200000) "
          + "INSERT INTO t SELECT i, hex(randomblob(20)) FROM s")
      try cluster.settle()
      for node in [cluster.primary, cluster.replica] {
        let slow = try node.connect(receiveBytes: 4096)
        let before = node.memoryBytes("VmRSS")
        try slow.send("{\"id\":\"big\",\"sql\":\"SELECT id, v FROM t ORDER BY id\"}\n")
        let other = try node.connect()
        for _ in 0..<200 { #expect(try other.integer("SELECT 1") == 1) }
        try other.run("UPDATE t SET v = 'changed' WHERE id = 200000")
        var rows = 0
        var last = ""
        var lines = 0
        while let line = try slow.readLine() {
          lines += 1
          last = line
          rows +=
            line.utf8.count { $0 == UInt8(ascii: "[") } - (line.contains("\"rows\":[") ? 1 : 0)
            - (line.contains("\"cols\":[") ? 1 : 0)
          #expect(line.utf8.count < 100_000)
          if !line.contains("\"more\":true") { break }
        }
        let grown = node.memoryBytes() - before
        note("200000 rows in \(lines) lines; the \(node.role) grew by \(grown >> 10) KiB")
        #expect(rows == 200_000)
        #expect(last.contains("\"token\"") && last.contains("\"id\":\"big\""))
        #expect(grown < 40 << 20)
        #expect(try other.query("SELECT v FROM t WHERE id = 200000").value == "changed")
      }
    }

    /// A client that leaves in the middle of a stream frees what it used.
    @Test func clientsThatLeaveDuringAStream() throws {
      let node = try makeNode()
      try node.connect().run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 50000) "
          + "INSERT INTO t SELECT i, hex(randomblob(100)) FROM s")
      for _ in 0..<100 {
        let client = try node.connect(receiveBytes: 4096)
        try client.send("SELECT * FROM t\n")
        _ = try client.readLine()
      }
      try eventually("the connections to be gone") {
        try node.report()["connections"]?.integer == 1
      }
      #expect(try node.connect().integer("SELECT count(*) FROM t") == 50_000)
      // A sanitizer keeps what was freed.
      #expect(Deadline.patience > 1 || node.memoryBytes() < 400 << 20)
    }

    @Test func row41_endlessSQLIsStopped() throws {
      let node = try makeNode()
      let client = try node.connect()
      let endless =
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT max(i) FROM s"
      let answer = try client.query(endless, [], [("timeout_ms", 300)])
      #expect(answer.error == "STATEMENT_TIMEOUT", "\(answer.json)")
      let write = try client.query("INSERT INTO t(v) " + endless, [], [("timeout_ms", 300)])
      #expect(write.error == "STATEMENT_TIMEOUT", "\(write.json)")
      #expect(try client.integer("SELECT count(*) FROM t") == 0)
    }
  }
}
