// The secret between nodes: without it nobody gets a page, and nobody is believed.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct SecretTests {
    private static let right = "a secret of more than sixteen bytes"

    private func secret(_ directory: TestDirectory, _ name: String, _ text: String) throws -> String
    {
      try directory.write(name, text + "\n", mode: 0o600)
    }

    @Test func rightSecretWorks() throws {
      let directory = try TestDirectory()
      let file = try secret(directory, "secret", Self.right)
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", arguments: ["--ship-secret-file", file])
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)", "--ship-secret-file", file])
      let client = try replica.connect()
      try client.run("CREATE TABLE t(a)")
      #expect(try client.integer("SELECT count(*) FROM t") == 0)
    }

    /// Neither side accepts the other: no page goes to a stranger, and none is taken from one.
    @Test(arguments: [(right, "another secret, as long as it"), (right, ""), ("", right)])
    func otherSecretIsRefused(_ primarys: String, _ replicas: String) throws {
      let directory = try TestDirectory()
      func flags(_ name: String, _ text: String) throws -> [String] {
        text.isEmpty ? [] : ["--ship-secret-file", try secret(directory, name, text)]
      }
      let database = directory.file("p.db")
      do {
        let connection = try Connection(path: database, mode: .create)
        try connection.execute("CREATE TABLE t(v); INSERT INTO t VALUES ('PAGES-OF-THE-PRIMARY')")
      }
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", arguments: flags("p", primarys))
      let link = try FaultProxy(to: primary.shipPort)
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"] + flags("r", replicas), ships: false,
        waits: false)
      try eventually("some tries") { link.connections >= 4 }
      #expect(link.bytes(.down) < link.connections * 400, "handshakes and refusals only")
      #expect(!Files.exists(replica.database))
      #expect(replica.isRunning && primary.isRunning)
      #expect(replica.errorText.contains("secret"), "\(replica.errorText)")
    }

    /// A stranger who speaks nonsense, or nothing, to the ship port.
    @Test func strangerOnTheShipPort() throws {
      let directory = try TestDirectory()
      let file = try secret(directory, "secret", Self.right)
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", arguments: ["--ship-secret-file", file])
      var random = SeededGenerator(seed: 8)
      for round in 0..<40 {
        let stranger = try LineConnection(port: primary.shipPort)
        stranger.seconds = 20
        switch round % 4 {
        case 0: try stranger.send("GET / HTTP/1.1\r\n\r\n")
        case 1: try? stranger.send(bytes: random.bytes(5000))
        case 2: try stranger.send(bytes: [0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0])
        default: try stranger.send(bytes: [12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0])
        }
        stranger.finishSending()
        #expect(try stranger.readLine()?.utf8.count ?? 0 < 400)
      }
      #expect(try primary.connect().integer("SELECT 1") == 1)
      #expect(primary.memoryBytes() < 300 << 20)
    }

    @Test func openAddressesMustBeMeant() throws {
      let directory = try TestDirectory()
      let program = try Program.edgeSQL()
      let file = try secret(directory, "secret", Self.right)
      let refused: [[String]] = [
        ["primary", "--listen", "127.0.0.1:0", "--ship", "0.0.0.0:0"],
        ["primary", "--listen", "127.0.0.1:0", "--ship", ":0"],
        ["primary", "--listen", "0.0.0.0:0", "--ship", "127.0.0.1:0"],
        ["primary", "--listen", "0.0.0.0:0", "--ship", "0.0.0.0:0", "--ship-secret-file", file],
        ["replica", "--upstream", "127.0.0.1:1", "--listen", "[::]:0"],
      ]
      for arguments in refused {
        let result = try program.run(
          arguments + ["--db", directory.file("x.db")], deadline: .seconds(20))
        #expect(result.status == .exited(78), "\(arguments): \(result.status) \(result.error)")
        #expect(result.error.contains("--insecure"), "\(result.error)")
      }
      #expect(!Files.exists(directory.file("x.db")))
    }

    @Test func secretFilesThatAreNone() throws {
      let directory = try TestDirectory()
      let program = try Program.edgeSQL()
      let files = [
        directory.file("missing"),
        try directory.write("short", "short\n", mode: 0o600),
        try directory.write("open", Self.right, mode: 0o644),
        try directory.write("empty", "", mode: 0o600),
        directory.path,
      ]
      for file in files {
        let result = try program.run(
          [
            "primary", "--db", directory.file("x.db"), "--listen", "127.0.0.1:0", "--ship",
            "127.0.0.1:0", "--ship-secret-file", file,
          ], deadline: .seconds(20))
        #expect(result.status == .exited(78), "\(file): \(result.status)")
        #expect(result.error.contains(file) && !result.error.contains(Self.right))
      }
    }
  }
}
