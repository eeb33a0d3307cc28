// HTTP and WebSockets through TLS, on both roles: https and wss work, plain text gets nothing, and new
// certificates count without a restart.

import Access
import EdgeTesting
import Glibc
import Serving
import Testing

extension NodeTests {
  @Suite struct HTTPTLSTests {
    private struct Pair {
      let directory: TestDirectory
      let authority: TestCertificates
      let primary: NodeProcess
      let replica: NodeProcess
      var nodes: [NodeProcess] { [primary, replica] }

      init() throws {
        directory = try TestDirectory()
        authority = try TestCertificates(in: directory)
        let flags = try authority.issue().flags
        primary = try NodeProcess(
          .primary, in: directory, database: "p.db", arguments: flags, speaksHTTP: true)
        replica = try NodeProcess(
          .replica, in: directory, database: "r.db",
          arguments: ["--upstream", "localhost:\(primary.shipPort)"] + flags
            + ["--tls-ca", authority.authority], speaksHTTP: true)
        for node in nodes { node.transport = try authority.client() }
        try primary.connect().run("CREATE TABLE t(a)")
      }
    }

    private func execute(_ node: NodeProcess, _ sql: String) throws -> HTTPMessage {
      try HTTPClient(port: node.httpPort, transport: node.transport).request(
        "POST", "/v1/execute", #"{"stmt":{"sql":"\#(sql)"}}"#)
    }

    @Test func everythingWorksOverHTTPSAndWSS() throws {
      let pair = try Pair()
      for node in pair.nodes {
        #expect(try execute(node, "INSERT INTO t VALUES (randomblob(10))").status == 200)
        let client = try HTTPClient(port: node.httpPort, transport: node.transport)
        // Longer than any buffer on the way, twice on one connection.
        for _ in 0..<2 {
          let answer = try client.request(
            "POST", "/v3/cursor",
            #"{"batch":{"steps":[{"stmt":{"sql":"SELECT hex(zeroblob(1500000)) AS x"}}]}}"#)
          #expect(answer.status == 200 && answer.body.count > 3_000_000)
        }
        let socket = try WebSocketClient(
          port: node.httpPort, headers: ["Sec-WebSocket-Protocol: hrana3"],
          transport: node.transport)
        #expect(socket.handshake.status == 101)
        for text in [
          #"{"type":"hello","jwt":null}"#,
          #"{"type":"request","request_id":1,"request":{"type":"open_stream","stream_id":1}}"#,
          #"{"type":"request","request_id":2,"request":{"type":"execute","stream_id":1,"#
            + #""stmt":{"sql":"INSERT INTO t VALUES (7) RETURNING a"}}}"#,
        ] { try socket.send(text) }
        #expect(try socket.message()["type"]?.text == "hello_ok")
        _ = try socket.message()
        let answer = try socket.message()
        #expect(answer["response"]?["result"]?["rows"]?[0]?[0]?["value"]?.text == "7")
      }
      #expect(try pair.replica.connect().integer("SELECT count(*) FROM t") == 4)
    }

    @Test func row49_plainTextGetsNothingFromAPortOfHTTPS() throws {
      let pair = try Pair()
      for node in pair.nodes {
        let request = HTTPClient.text(
          "POST", "/v1/execute", #"{"stmt":{"sql":"INSERT INTO t VALUES (1)"}}"#)
        for text in [request, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "SELECT 1\n"] {
          let plain = try HTTPClient(port: node.httpPort)
          #expect(plain.trySend(bytes: Array(text.utf8)))
          // Whatever comes, if anything does, is no answer.
          let rest = (try? plain.readRest()) ?? []
          #expect(!String(decoding: rest, as: UTF8.self).contains("HTTP/"), "\(text)")
        }
        #expect(throws: (any Error).self) {
          try WebSocketClient(port: node.httpPort).handshake
        }
        // Who does not believe the certificate sends nothing.
        let stranger = try TestCertificates(in: pair.directory, name: "stranger").client()
        #expect(throws: TLSFailure.self) {
          try HTTPClient(port: node.httpPort, transport: stranger)
        }
        // Handshakes that never end cost nobody else anything.
        let silent = try (0..<20).map { _ in try HTTPClient(port: node.httpPort) }
        #expect(try execute(node, "SELECT 1").status == 200)
        _ = silent
      }
      #expect(try pair.primary.connect().integer("SELECT count(*) FROM t") == 0)
      // TLS where none is spoken.
      let open = try NodeProcess(
        .primary, in: pair.directory, database: "q.db", ships: false, speaksHTTP: true)
      #expect(throws: TLSFailure.self) {
        try HTTPClient(port: open.httpPort, transport: pair.primary.transport)
      }
    }

    @Test func certificatesOfHTTPSAreReadAgain() throws {
      let pair = try Pair()
      let next = try TestCertificates(in: pair.directory, name: "next")
      let (old, new) = (try pair.authority.client(), try next.client())
      let node = pair.primary
      let client = try HTTPClient(port: node.httpPort, transport: old)
      #expect(try client.request("GET", "/health").status == 200)
      let certificate = try next.issue("fresh")
      try pair.directory.write("node.pem", Files.read(certificate.certificate))
      try pair.directory.write("node.key", Files.read(certificate.key), mode: 0o600)
      node.signal(SIGHUP)
      try eventually("the new certificate") {
        (try? HTTPClient(port: node.httpPort, transport: new)) != nil
      }
      #expect(try client.request("GET", "/health").status == 200, "connections stay")
      #expect(throws: TLSFailure.self) { try HTTPClient(port: node.httpPort, transport: old) }
      node.transport = new
      #expect(try execute(node, "SELECT 1").status == 200)
    }
  }
}
