// Who may do what: each route of both roles, asked by everybody with any kind of credential.

import Access
import EdgeTesting
import Glibc
import Serving
import Store
import Testing
import WALShip

extension NodeTests {
  @Suite struct AccessTests {
    @Test func rows45and46_eachRouteAskedByEachBearer() async throws {
      let pair = try await GuardedPair()
      try pair.ask(AccessRoute.line)
      // Each allowed write was made, and no other one: five routes, two bearers, two nodes.
      #expect(try pair.primary.connect().integer("SELECT count(*) FROM t") == 5 * 2 * 2)
    }

    /// sqld lets a reader hold the write lock.
    @Test func row46_readersNeverHoldTheWriteLock() async throws {
      let pair = try await GuardedPair()
      for node in pair.nodes {
        let reader = try LineConnection(port: node.listenPort)
        try reader.authenticate(try #require(try pair.tokens.token(.reader)))
        for line in [
          "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "SAVEPOINT a",
          "/* BEGIN */ BEGIN /* a */ IMMEDIATE TRANSACTION",
        ] {
          #expect(try reader.request(line).error == "AUTH_DENIED", "\(line)")
        }
        try reader.run("BEGIN")
        #expect(try reader.query("DELETE FROM t").error == "AUTH_DENIED")
        #expect(try reader.query("PRAGMA user_version = 3").error == "AUTH_DENIED")
        // Its transaction goes on, and nobody waits for it.
        #expect(try reader.integer("SELECT count(*) FROM t") >= 0)
        let writer = try node.connect()
        writer.seconds = 3
        try writer.run("INSERT INTO t VALUES ('beside the reader')")
        try reader.run("COMMIT")
      }
    }

    /// A replica that is not what it should be: it says of a request that its client may only read.
    @Test func row46_thePrimaryChecksWhatItsReplicasForward() async throws {
      let pair = try await GuardedPair()
      let stranger = try RawFollower(
        port: pair.primary.shipPort, name: "odd",
        secret: ShipSecret(file: pair.directory.file("secret")))
      let statement = StatementRequest(sql: SQLText("INSERT INTO t VALUES ('forwarded')"))
      let writes: [EngineRequest.Work] = [
        .write([statement]), .begin(basis: nil, [statement]), .begin(basis: nil, []),
        .proceed(transaction: 1, [statement]),
      ]
      for (number, work) in writes.enumerated() {
        for level in [AccessLevel.none, .read] {
          var request = EngineRequest(work)
          request.access = level
          let response = try stranger.ask(request)
          #expect(response.failure?.error.code == "AUTH_DENIED", "\(number) \(level)")
        }
      }
      var read = EngineRequest(.read([StatementRequest(sql: SQLText("SELECT count(*) FROM t"))]))
      read.access = .none
      #expect(try stranger.ask(read).failure?.error.code == "AUTH_DENIED")
      read.access = .read
      #expect(try stranger.ask(read).results.first?.rows == [[.integer(0)]])
      // What only reads stays so, whatever it is called.
      let disguised = EngineRequest(.read([statement]))
      #expect(try stranger.ask(disguised).failure?.error.code == "READ_ONLY")
      // The rights of those whom the follower asked for nothing are those of nobody.
      for work in writes + [.read([StatementRequest(sql: SQLText("SELECT count(*) FROM t"))])] {
        var request = EngineRequest(work)
        request.isAnonymous = true
        #expect(try stranger.ask(request).failure?.error.code == "AUTH_DENIED")
      }
      var write = EngineRequest(.write([statement]))
      write.access = .write
      #expect(try stranger.ask(write).failure == nil)
      #expect(try pair.primary.connect().integer("SELECT count(*) FROM t") == 1)
    }

    /// A replica whose clients need no credential is no way around those that the primary asks for;
    /// neither is one that follows it.
    @Test func row46_aReplicaThatAsksForNothingLendsNoRights() async throws {
      let pair = try await GuardedPair()
      let secret = ["--ship-secret-file", pair.directory.file("secret")]
      let open = try NodeProcess(
        .replica, in: pair.directory, database: "open.db",
        arguments: ["--upstream", "127.0.0.1:\(pair.primary.shipPort)"] + secret, speaksHTTP: true)
      let below = try NodeProcess(
        .replica, in: pair.directory, database: "below.db",
        arguments: ["--upstream", "127.0.0.1:\(open.shipPort)"] + secret, speaksHTTP: true)
      let behind = try NodeProcess(
        .replica, in: pair.directory, database: "behind.db",
        arguments: ["--upstream", "127.0.0.1:\(pair.replica.shipPort)"] + secret, speaksHTTP: true)
      for node in [open, below, behind] {
        let client = try node.connect()
        for line in [
          "INSERT INTO t VALUES (1)", "BEGIN IMMEDIATE", "SAVEPOINT a",
          #"{"sql":"SELECT count(*) FROM t","read":"primary"}"#,
          #"{"batch":[{"sql":"INSERT INTO t VALUES (1)"}]}"#,
        ] {
          let answer = try client.request(line)
          #expect(answer.error == "AUTH_DENIED", "\(line): \(answer.json)")
          #expect(answer.message.contains("--auth-jwt-key-file"), "\(answer.json)")
        }
        // What is here they may read, as their node says.
        #expect(try client.integer("SELECT count(*) FROM t") == 0)
        #expect(
          try client.query("SELECT count(*) FROM t", [], [("read", "latest")]).error == nil)
        let connection = try HTTPClient(port: node.httpPort)
        let answer = try connection.request(
          "POST", "/v1/execute", #"{"stmt":{"sql":"INSERT INTO t VALUES (1)"}}"#)
        #expect(answer.status == 500 && answer.text.contains("AUTH_DENIED"), "\(answer.text)")
      }
      // A credential that was shown to the node that the client speaks to counts on all the way.
      let asking = try NodeProcess(
        .replica, in: pair.directory, database: "asking.db",
        arguments: [
          "--upstream", "127.0.0.1:\(open.shipPort)", "--auth-jwt-key-file",
          pair.directory.file("tokens.pem"),
        ] + secret)
      asking.token = try pair.tokens.token(.writer)
      try asking.connect().run("INSERT INTO t VALUES (1)")
      #expect(try pair.primary.connect().integer("SELECT count(*) FROM t") == 1)
    }

    /// The handshake of another connection proves nothing.
    @Test func row48_aRecordedHandshakeIsWorthNothing() async throws {
      let pair = try await GuardedPair()
      let secret = try ShipSecret(file: pair.directory.file("secret"))
      let port = pair.primary.shipPort
      let nonce = ShipSecret.nonce()
      let first = try ShipConnection(port: port)
      try first.send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
      let challenge = try ShipChallenge(decoding: try first.receive(.challenge))
      let join = ShipProof.wrap(
        ShipJoin(node: .starting(name: "a"), want: .copy, position: .none, pageSize: 0).encode(),
        secret: secret, role: .follower, nonces: [nonce, challenge.nonce])
      let second = try ShipConnection(port: port)
      try second.send(ShipMessage(.hello, body: ShipHello(nonce: nonce).encode()))
      #expect(try ShipChallenge(decoding: try second.receive(.challenge)).nonce != challenge.nonce)
      try second.send(ShipMessage(.join, body: join))
      let refusal = try ShipRefusal(decoding: try second.receive(.refuse))
      #expect(refusal.reason == .authentication)
      try first.send(ShipMessage(.join, body: join))
      _ = try first.receive(.welcome)
    }

    @Test func row45_aCredentialEndsWhileItsConnectionGoesOn() async throws {
      let pair = try await GuardedPair()
      for node in pair.nodes {
        // A second or two, and the leeway.
        let end = TestTokens.nowSeconds - TokenVerifier.leewaySeconds + 3
        let short = try pair.tokens.signed("{\"a\":\"rw\",\"exp\":\(end)}")
        let client = try LineConnection(port: node.listenPort)
        #expect(try client.authenticate(short).error == nil)
        #expect(try client.query("SELECT 1").error == nil)
        try eventually("the end of the credential", deadline: .seconds(20)) {
          try client.query("SELECT 1").error == "AUTH_DENIED"
        }
        #expect(try client.query("INSERT INTO t VALUES (1)").message.contains("expired"))
        // Another one takes its place.
        let fresh = try #require(try pair.tokens.token(.reader))
        #expect(try client.authenticate(fresh).error == nil)
        #expect(try client.query("SELECT 1").error == nil)
        // A bad one leaves nothing of those before.
        #expect(try client.authenticate("nonsense").error == "AUTH_DENIED")
        #expect(try client.query("SELECT 1").error == "AUTH_REQUIRED")
      }
    }

    /// A key that is taken out of its file is worth nothing after SIGHUP, for open connections, too.
    @Test func row45_keysAreTakenBack() async throws {
      let pair = try await GuardedPair()
      let client = try pair.primary.connect()
      #expect(try client.query("SELECT 1").error == nil)
      try pair.directory.write("tokens.pem", pair.tokens.stranger.publicPEM)
      pair.primary.signal(SIGHUP)
      try eventually("the key to be gone", deadline: .seconds(20)) {
        try client.query("SELECT 1").error == "AUTH_DENIED"
      }
      pair.primary.token = try pair.tokens.token(.forged)
      #expect(try pair.primary.connect().integer("SELECT 1") == 1)
      // What cannot be read changes nothing.
      try pair.directory.write("tokens.pem", "nonsense")
      pair.primary.signal(SIGHUP)
      try eventually("the complaint") { pair.primary.errorText.contains("stay as they were") }
      #expect(try pair.primary.connect().integer("SELECT 1") == 1)
    }
  }
}
