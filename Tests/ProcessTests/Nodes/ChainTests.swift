// Replicas that follow replicas: primary <- first <- second <- third.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct ChainTests {
    /// Rows that are committed, tokens and transactions know no difference between the nodes.
    @Test func everyNodeOfAChainDoesWhatThePrimaryDoes() throws {
      let chain = try Chain()
      let client = try chain.last.connect()
      try client.run(WriteLoad.schema)
      for number in Int64(1)...20 {
        let answer = try client.run(
          "INSERT INTO log(id, body) VALUES (?, 'from the end')", [.integer(number)])
        #expect(try client.integer("SELECT count(*) FROM log") == number)
        let token = try #require(answer.token)
        for node in [chain.primary] + chain.replicas {
          let seen = try node.connect().query(
            "SELECT count(*) FROM log", [],
            [("token", .string(token)), ("on_lag", "error"), ("wait_ms", 20_000)])
          #expect(seen.integer == number, "\(node.database): \(seen.json)")
        }
      }
      let before = try client.integer("SELECT max(id) FROM log")
      try client.run("BEGIN")
      #expect(try client.integer("SELECT count(*) FROM log") == 20)
      try client.run("UPDATE log SET id = id + 100")
      #expect(try client.integer("SELECT max(id) FROM log") == before + 100)
      #expect(try chain.primary.connect().integer("SELECT max(id) FROM log") == before)
      try client.run("COMMIT")
      #expect(try client.integer("SELECT max(id) FROM log") == before + 100)
      #expect(try chain.primary.connect().integer("SELECT max(id) FROM log") == before + 100)
      try client.run("BEGIN")
      try client.run("DELETE FROM log")
      try client.run("ROLLBACK")
      #expect(try client.integer("SELECT count(*) FROM log") == 20)
      try chain.requireEqual()
      // Each node says how old its knowledge of the primary is, not of the node above.
      try eventually("contact at the end of the chain") {
        try client.query(
          "SELECT 1", [], [("read", "bounded"), ("max_lag_ms", 10_000), ("on_lag", "error")]
        ).error == nil
      }
      chain.primary.suspend()
      elapse(seconds: 1.5)
      let late = try client.query(
        "SELECT 1", [], [("read", "bounded"), ("max_lag_ms", 300), ("on_lag", "error")])
      chain.primary.resume()
      #expect(late.error == "TOKEN_TIMEOUT")
    }

    /// What came while the last node was away is applied as one, beside a reader who sees none of
    /// it before his transaction ends, and all of it then.
    @Test func rows27and31_backlogOfTwentyThousandRows() throws {
      let chain = try Chain()
      let client = try chain.primary.connect()
      try client.run(WriteLoad.schema)
      try client.run("INSERT INTO log(id, body) VALUES (0, 'first')")
      try chain.settle()
      do {
        let reader = try Connection(path: chain.last.database, mode: .readOnly)
        try reader.execute("BEGIN")
        #expect(try reader.queryInteger("SELECT count(*) FROM log") == 1)
        try chain.last.terminate()
        for first in stride(from: 1, through: 20_000, by: 250) {
          let rows = (first..<first + 250).map {
            "[\"INSERT INTO log(id, body) VALUES (?, 'one of the backlog')\",\($0)]\n"
          }
          try client.send(rows.joined())
          for _ in rows where try client.receive().error != nil {
            throw TestFailure("a write failed")
          }
        }
        try chain.last.start()
        // Whatever the other connections see, this one stays where it is.
        try eventually("the backlog", deadline: .seconds(120)) {
          #expect(try reader.queryInteger("SELECT count(*) FROM log") == 1)
          return try chain.last.txid() == chain.primary.txid()
        }
        #expect(try reader.queryInteger("SELECT count(*) FROM log") == 1)
        try reader.execute("COMMIT")
        #expect(try reader.queryInteger("SELECT count(*) FROM log") == 20_001)
      }
      try chain.requireEqual()
    }

    /// kill -9 in the middle, under load from both ends.
    @Test func row02_theMiddleIsKilledUnderLoad() throws {
      let chain = try Chain()
      try chain.last.connect().run(WriteLoad.schema)
      try chain.settle()
      let load = WriteLoad(
        ports: [chain.primary.listenPort, chain.last.listenPort], threads: 2)
      for _ in 0..<4 {
        let before = load.acknowledgedCount
        try eventually("writes") { load.acknowledgedCount > before + 50 }
        chain.replicas[0].kill()
        try eventually("writes beside the gap") { load.acknowledgedCount > before + 100 }
        try chain.replicas[0].start()
        try eventually("the end of the chain to write again", deadline: .seconds(30)) {
          // Refused by the primary itself, and so sent up all the way, without any effect.
          try chain.last.connect().query("INSERT INTO log(id) VALUES (NULL)").error
            == "SQLITE_CONSTRAINT_NOTNULL"
        }
      }
      let outcome = try load.stop()
      try chain.requireEqual()
      note(
        "4 kills of the middle: \(outcome.acknowledged.count) acknowledged, "
          + "\(outcome.unknown.count) unknown, \(outcome.refused.count) refused")
      for node in chain.replicas {
        #expect(try outcome.problems(in: node.database) == [])
      }
    }

    /// A replica with two upstreams goes on from the other one where it was, without a copy.
    @Test func theSecondUpstreamTakesOver() throws {
      let chain = try Chain { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "CREATE TABLE ballast(id INTEGER PRIMARY KEY, b BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 1000)"
            + "INSERT INTO ballast SELECT i, randomblob(4000) FROM s; \(WriteLoad.schema)")
      }
      try chain.last.terminate()
      chain.last.arguments = Chain.arguments("third", chain.replicas[1], chain.replicas[0])
      try chain.last.start()
      let client = try chain.primary.connect()
      try client.run("INSERT INTO log(id, body) VALUES (1, 'through the second')")
      try chain.settle()
      chain.replicas[1].kill()
      try client.run("INSERT INTO log(id, body) VALUES (2, 'through the first')")
      try eventually("the third node to follow the first", deadline: .seconds(30)) {
        try chain.last.txid() == chain.primary.txid()
      }
      let followers = try chain.replicas[0].report()["replicas"]?.elements ?? []
      let third = try #require(followers.first { $0["name"]?.text == "third" })
      let moved = try #require(third["bytes_sent"]?.integer)
      note("a change of the upstream moved \(moved) bytes of \(Files.size(chain.last.database))")
      #expect(moved < 64 << 10)
      try chain.last.connect().run("INSERT INTO log(id, body) VALUES (3, 'back up')")
      try chain.replicas[1].start()
      try chain.requireEqual()
    }

    /// A ring of nodes has no primary. One of them says so, and all of them answer local reads. It
    /// closes where nobody looks: all others have joined already.
    @Test(arguments: 1...3) func row23_ringsAreRefused(_ count: Int) throws {
      let chain = try Chain()
      try chain.primary.connect().run(WriteLoad.schema)
      try chain.settle()
      let ring = chain.replicas.prefix(count)
      try chain.replicas[0].terminate()
      let gap = try FaultProxy(to: ring[count - 1].shipPort)
      gap.partition()
      chain.replicas[0].arguments = Chain.arguments("first", port: gap.port)
      try chain.replicas[0].start()
      for node in ring.dropFirst() {
        try eventually("the others to follow") {
          try node.report()["upstream"]?["state"]?.text == "streaming"
        }
        try Self.requireNoContact(node)
      }
      gap.heal()
      try eventually("a node that is refused") {
        try ring.contains { node in
          let upstream = try node.report()["upstream"]
          return upstream?["last_error"]?.text?.contains("cannot follow itself") == true
        }
      }
      for node in ring {
        let client = try node.connect()
        #expect(try client.integer("SELECT count(*) FROM log") == 0)
        try Self.requireNoContact(node)
        let write = try client.query("INSERT INTO log(id) VALUES (1)")
        #expect(write.error == "PRIMARY_UNAVAILABLE" || write.error == "OUTCOME_UNKNOWN")
      }
      try chain.replicas[0].terminate()
      chain.replicas[0].arguments = Chain.arguments("first", chain.primary)
      try chain.replicas[0].start()
      try chain.primary.connect().run("INSERT INTO log(id, body) VALUES (2, 'after the ring')")
      try chain.requireEqual()
    }

    /// A replica that finds damage as it starts, while it can ask nobody, keeps it to itself.
    @Test func row10_damageIsNotPassedDownTheChain() throws {
      let chain = try Chain { try Ballast.make($0, rows: 500) }
      try chain.settle()
      let (first, second) = (chain.replicas[0], chain.replicas[1])
      try first.terminate()
      try chain.primary.terminate()
      // Without a WAL that leads on from what the page map says, all pages are read at the start.
      do {
        let tool = try Connection(path: first.database, mode: .readWrite)
        _ = try tool.query("PRAGMA wal_checkpoint(TRUNCATE)")
      }
      try Files.flipBit(first.database, at: 4096 * 300 + 2000)
      try first.start()
      try eventually("the follower is turned away") {
        second.errorText.contains("must be compared")
      }
      let refused = try first.connect().query("SELECT sum(length(b)) FROM ballast")
      #expect(refused.error == "PRIMARY_UNAVAILABLE", "\(refused.json)")
      #expect(try second.connect().integer("SELECT count(*) FROM ballast") == 500)
      try samePages(chain.primary.database, second.database)
      try chain.primary.start()
      try eventually("it is repaired") { try first.status("damage") == .null }
      #expect(try first.connect().integer("SELECT count(*) FROM ballast") == 500)
      try chain.requireEqual()
    }

    /// However often a node hears from those above: what counts is when they heard of the primary.
    private static func requireNoContact(_ node: NodeProcess) throws {
      try eventually("an age that is true") {
        try node.connect().query(
          "SELECT 1", [], [("read", "bounded"), ("max_lag_ms", 5000), ("on_lag", "error")]
        ).error == "TOKEN_TIMEOUT"
      }
    }
  }
}

/// A primary and three replicas in a row.
private final class Chain {
  let directory: TestDirectory
  let primary: NodeProcess
  private(set) var replicas: [NodeProcess] = []
  var last: NodeProcess { replicas[2] }

  init(prepare: (String) throws -> Void = { _ in }) throws {
    directory = try TestDirectory()
    try prepare(directory.file("primary.db"))
    primary = try NodeProcess(.primary, in: directory, database: "primary.db")
    for name in ["first", "second", "third"] {
      replicas.append(
        try NodeProcess(
          .replica, in: directory, database: "\(name).db",
          arguments: Self.arguments(name, replicas.last ?? primary)))
    }
  }

  static func arguments(_ name: String, _ upstreams: NodeProcess...) -> [String] {
    let addresses = upstreams.map { "127.0.0.1:\($0.shipPort)" }
    return ["--name", name, "--upstream", addresses.joined(separator: ",")]
  }

  static func arguments(_ name: String, port: Int) -> [String] {
    ["--name", name, "--upstream", "127.0.0.1:\(port)"]
  }

  func settle() throws {
    for node in replicas {
      try eventually("\(node.database) at the primary's position", deadline: .seconds(60)) {
        try node.txid() == primary.capturedTXID()
      }
    }
  }

  func requireEqual() throws {
    try settle()
    for node in replicas { try samePages(primary.database, node.database) }
  }
}
