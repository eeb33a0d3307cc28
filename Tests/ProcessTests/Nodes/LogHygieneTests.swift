// Nothing that is secret, and nothing of what clients store, is in a log at any level.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct LogHygieneTests {
    @Test func logsHoldNoTokensNoKeysAndNoValues() async throws {
      let directory = try TestDirectory()
      let tokens = try await TestTokens()
      let secretText = "SECRET-BETWEEN-THE-NODES"
      let secret = try directory.write("secret", secretText, mode: 0o600)
      let arguments = [
        "--auth-jwt-key-file", try tokens.keyFile(in: directory), "--ship-secret-file", secret,
        "--log-level", "trace",
      ]
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", arguments: arguments)
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"] + arguments)
      let good = try #require(try tokens.token(.admin))
      for node in [primary, replica] {
        node.token = good
        let client = try node.connect()
        try client.query("CREATE TABLE t(v UNIQUE CHECK (v <> 'PARAMETER-CHECKED'))")
        for value in ["PARAMETER-STORED", "PARAMETER-STORED", "PARAMETER-CHECKED"] {
          try client.query("INSERT INTO t VALUES (?)", [.string(value)])
        }
        try client.query("SELECT * FROM t WHERE v = :a", [.string("PARAMETER-COMPARED")])
        try client.query("SELECT nothing(?)", [.string("PARAMETER-LOST")])
        try client.query("SELEC 'LITERAL-WRONG'")
        try client.query("SELECT 'LITERAL-READ'")
        try client.request(#"{"sql":"SELECT ?","args":["PARAMETER-TORN"#)
        for bearer in Bearer.allCases {
          guard let token = try tokens.token(bearer) else { continue }
          let connection = try LineConnection(port: node.listenPort)
          try connection.authenticate(token)
          try connection.query("INSERT INTO t VALUES (?)", [.string("PARAMETER-\(bearer)")])
        }
        // What looks like another protocol, with a credential in it.
        let stray = try LineConnection(port: node.listenPort)
        try stray.send("GET /?token=\(good) HTTP/1.1\r\nAuthorization: Bearer \(good)\r\n\r\n")
        _ = try stray.readLine()
        try stray.send("x")
      }
      for node in [primary, replica] {
        try node.terminate()
        let log = node.errorText
        #expect(log.contains("trace") || log.contains("info"), "there is a log")
        let parts = good.split(separator: ".").map(String.init)
        for text in ["PARAMETER", "LITERAL", secretText, parts[1], parts[2], "PRIVATE KEY"] {
          #expect(!log.contains(text), "\(node.role): \(text)")
        }
      }
    }
  }
}
