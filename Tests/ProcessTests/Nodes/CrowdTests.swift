// Many clients, and bad ones: those beside them do not notice.

import EdgeTesting
import Glibc
import Serving
import Testing

extension NodeTests {
  @Suite struct CrowdTests {
    private static let endless =
      "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT max(i) FROM s"

    private func makeNode() throws -> NodeProcess {
      let node = try NodeProcess(
        .primary, in: TestDirectory(), database: "p.db", ships: false, speaksHTTP: true)
      try node.connect().run("CREATE TABLE t(v)")
      try node.connect().run("INSERT INTO t VALUES (1)")
      return node
    }

    /// Reads and writes of others, over both protocols, on new connections and on old ones.
    private func others(_ node: NodeProcess, _ line: LineConnection, _ http: HTTPClient) throws {
      let read = #"{"stmt":{"sql":"SELECT count(*) FROM t"}}"#
      for _ in 0..<10 {
        #expect(try line.integer("SELECT count(*) FROM t") >= 1)
        #expect(try http.request("POST", "/v1/execute", read).status == 200)
        try line.run("INSERT INTO t VALUES (2)")
      }
      #expect(try node.connect().integer("SELECT count(*) FROM t") >= 1)
      let client = try HTTPClient(port: node.httpPort)
      #expect(try client.request("POST", "/v1/execute", read).status == 200)
    }

    private func watched(
      _ body: (NodeProcess, _ others: () throws -> Void) throws -> Void
    ) throws {
      let node = try makeNode()
      let (line, http) = (try node.connect(), try HTTPClient(port: node.httpPort))
      try others(node, line, http)
      try body(node) { try others(node, line, http) }
      #expect(node.isRunning)
    }

    @Test func row38_aThousandIdleClients() throws {
      try watched { node, others in
        let before = node.memoryBytes("VmRSS")
        var lines: [LineConnection] = []
        var clients: [HTTPClient] = []
        var sockets: [WebSocketClient] = []
        for number in 0..<1000 {
          switch number % 4 {
          case 0, 1:
            let line = try node.connect()
            if number % 4 == 1 { #expect(try line.integer("SELECT 1") == 1) }
            lines.append(line)
          case 2:
            let client = try HTTPClient(port: node.httpPort)
            #expect(try client.request("GET", "/v2").status == 200)
            clients.append(client)
          default:
            let socket = try WebSocketClient(port: node.httpPort)
            try socket.send(#"{"type":"hello","jwt":null}"#)
            _ = try socket.message()
            sockets.append(socket)
          }
        }
        try others()
        #expect(try node.report()["connections"]?.integer ?? 0 > 1000)
        let each = (node.memoryBytes("VmRSS") - before) / 1000
        note("\(each) bytes of memory for each idle client")
        #expect(each < 50_000)
        // None of them was forgotten.
        for line in lines.suffix(50) { #expect(try line.integer("SELECT 7") == 7) }
        for client in clients.suffix(50) {
          #expect(try client.request("GET", "/v3").status == 200)
        }
        for socket in sockets.suffix(50) {
          try socket.send(
            #"{"type":"request","request_id":1,"request":{"type":"open_stream","stream_id":1}}"#)
          #expect(try socket.message()["type"]?.text == "response_ok")
        }
      }
    }

    /// They send half of something, and then a byte now and then.
    @Test func row39_halfRequestsAreCutOff() throws {
      try watched { node, others in
        let beginnings = [
          "GET", "POST /v1/execute HTTP/1.1\r\nHost: a\r\nX-A: b",
          "POST /v1/execute HTTP/1.1\r\nContent-Length: 900\r\n\r\n{\"stmt\"",
          "POST /v2/pipeline HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        ]
        let slow = try (0..<200).map { number in
          let client = try HTTPClient(port: node.httpPort)
          try client.send(beginnings[number % beginnings.count])
          return client
        }
        let lines = try (0..<50).map { _ in
          let line = try node.connect()
          try line.send("SELECT ")
          return line
        }
        // Who says nothing on a WebSocket.
        let sockets = try (0..<20).map { _ in try WebSocketClient(port: node.httpPort) }
        try others()
        // More bytes are no more time: one each until the node has had enough of all of them.
        try eventually("the end of half requests", deadline: .seconds(40)) {
          for client in slow { _ = client.trySend(bytes: [UInt8(ascii: "a")]) }
          return try node.report()["connections"]?.integer ?? 0 <= 4
        }
        try others()
        for client in slow.prefix(20) {
          let text = String(decoding: (try? client.readRest()) ?? [], as: UTF8.self)
          #expect(text.isEmpty || text.contains("408") || text.contains("400"), "\(text)")
        }
        for line in lines.prefix(5) {
          let rest = (try? line.readRest()) ?? ""
          #expect(!rest.contains("\"rows\""), "\(rest)")
        }
        for socket in sockets.prefix(5) {
          #expect((try? socket.receive().kind) ?? .close == .close)
        }
      }
    }

    @Test func row41_endlessStatementsLeaveOthersAlone() throws {
      try watched { node, others in
        let lines = try (0..<8).map { _ in
          let line = try node.connect()
          try line.send(Self.endless + "\n")
          return line
        }
        let clients = try (0..<8).map { number in
          let client = try HTTPClient(port: node.httpPort)
          let path = number % 2 == 0 ? "/v1/execute" : "/v2/pipeline"
          let statement = #""stmt":{"sql":"\#(Self.endless)"}"#
          let body =
            number % 2 == 0
            ? "{\(statement)}" : #"{"requests":[{"type":"execute",\#(statement)}]}"#
          try client.send(HTTPClient.text("POST", path, body))
          return client
        }
        try others()
        for line in lines { #expect(try line.receive().error == "STATEMENT_TIMEOUT") }
        for client in clients {
          #expect(try client.answer().text.contains("STATEMENT_TIMEOUT"))
        }
        // A write that never ends has the writer for its time, and nothing of it stays.
        let before = try node.connect().integer("SELECT count(*) FROM t")
        let writer = try node.connect()
        try writer.send("INSERT INTO t \(Self.endless)\n")
        try others()
        #expect(try writer.receive().error == "STATEMENT_TIMEOUT")
        #expect(try node.connect().integer("SELECT count(*) FROM t") == before + 10)
      }
    }

    @Test(
      .enabled(
        if: Deadline.patience == 1, "a sanitizer takes longer than answers may stay unread"))
    func row42_giantValuesAndSlowReaders() throws {
      try watched { node, others in
        let line = try node.connect()
        for sql in [
          "SELECT zeroblob(2000000000)", "SELECT length(zeroblob(100000000))",
          "SELECT group_concat(hex(zeroblob(4000000))) FROM (VALUES (1), (2), (3), (4))",
          "INSERT INTO t VALUES (zeroblob(100000000))",
          "SELECT replace(hex(zeroblob(8000000)), '0', 'abcdefgh')",
        ] {
          let answer = try line.query(sql)
          #expect(answer.error == "SQLITE_TOOBIG", "\(sql): \(answer.error ?? "no error")")
          let http = try HTTPClient(port: node.httpPort).request(
            "POST", "/v1/execute", #"{"stmt":{"sql":"\#(sql)"}}"#)
          #expect(http.text.contains("SQLITE_TOOBIG"), "\(sql): \(http.text.prefix(200))")
        }
        // Larger than an answer may be: over HTTP an error, over lines a stream.
        let rows =
          "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<300) "
          + "SELECT hex(zeroblob(100000)) FROM c"
        let whole = try HTTPClient(port: node.httpPort).request(
          "POST", "/v1/execute", #"{"stmt":{"sql":"\#(rows)"}}"#)
        #expect(whole.text.contains("RESPONSE_TOO_LARGE"), "\(whole.text.prefix(200))")
        #expect(try line.run(rows).rows.count == 300)
        // Those who ask for much and read nothing of it cost what their sockets hold, and a little.
        let lines = try (0..<20).map { _ in
          let slow = try node.connect(receiveBytes: 4096)
          try slow.send("\(rows)\n")
          return slow
        }
        let clients = try (0..<20).map { _ in
          let slow = try HTTPClient(port: node.httpPort, receiveBytes: 4096)
          let body = #"{"stmt":{"sql":"SELECT hex(zeroblob(2000000))"}}"#
          try slow.send(HTTPClient.text("POST", "/v1/execute", body))
          return slow
        }
        try others()
        note("\(node.memoryBytes() >> 20) MiB at most, beside readers that do not read")
        #expect(node.memoryBytes() < 600 << 20)
        for slow in lines.prefix(2) { #expect(try slow.receive().rows.count == 300) }
        for slow in clients.prefix(2) { #expect(try slow.answer().body.count > 4_000_000) }
      }
    }

    /// Tokens of the future over HTTP: see also `row50_futureToken`.
    @Test func row50_waitsOverHTTPLeaveOthersAlone() throws {
      try watched { node, others in
        let read = #"{"stmt":{"sql":"SELECT count(*) FROM t"}}"#
        let seen = try HTTPClient(port: node.httpPort).request("POST", "/v1/execute", read)
        let parts = (seen.headers["edge-token"] ?? "").split(separator: ".")
        try #require(parts.count >= 4)
        let future = "Edge-Token: \(parts[0]).\(parts[1]).\(parts[2]).999999"
        let waiting = try (0..<150).map { _ in
          let client = try HTTPClient(port: node.httpPort)
          try client.send(HTTPClient.text("POST", "/v1/execute", read, headers: [future]))
          return client
        }
        try others()
        for client in waiting {
          #expect(try client.answer().text.contains("TOKEN_TIMEOUT"))
        }
      }
    }

    @Test func row51_tokensThatAreNoneOverHTTP() throws {
      try watched { node, _ in
        for token in ["x", "e1", "e1.1.1", "e2.00000000.1.1", "e1.zzzzzzzz.1.1", "e1.1.1.-1"] {
          let answer = try HTTPClient(port: node.httpPort).request(
            "POST", "/v2/pipeline", #"{"requests":[]}"#, headers: ["Edge-Token: \(token)"])
          #expect(answer.status == 400 && answer.text.contains("TOKEN_INVALID"), "\(token)")
        }
        let foreign = try HTTPClient(port: node.httpPort).request(
          "POST", "/v1/execute", #"{"stmt":{"sql":"SELECT 1"}}"#,
          headers: ["Edge-Token: e1.00000001.1.1"])
        #expect(foreign.text.contains("TOKEN_INVALID"), "\(foreign.text)")
      }
    }
  }
}
