// Idempotency keys: a write that is sent again is made once, whatever happened in between.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct KeyTests {
    private static let insert = "INSERT INTO log(id, body) VALUES (?, 'keyed')"

    @Test func sameKeyTwiceIsOneRow() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run(WriteLoad.schema)
      for node in [cluster.primary, cluster.replica] {
        let id: JSONValue = node === cluster.primary ? 1 : 2
        let key: [(String, JSONValue)] = [("key", .string("k-\(node.listenPort)"))]
        let first = try node.connect().run(Self.insert, [id], key)
        let second = try node.connect().run(Self.insert, [id], key)
        #expect(first.json["last_rowid"] == second.json["last_rowid"])
        #expect(second.json["changes"] == .integer(1))
      }
      #expect(try client.integer("SELECT count(*) FROM log") == 2)
      #expect(try client.query("SELECT 1", [], [("key", "r")]).error == "PROTOCOL")
      let tooLong = String(repeating: "k", count: 65)
      #expect(try client.query(Self.insert, [3], [("key", .string(tooLong))]).error == "PROTOCOL")
    }

    @Test func keyOutlivesThePrimary() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      for number in 0..<10 {
        let client = try cluster.primary.connect()
        try client.send(
          LineConnection.line(
            Self.insert, [.integer(Int64(number))], [("key", .string("n\(number)"))]) + "\n")
        if number % 2 == 0 { _ = try client.receive() }
        cluster.primary.kill()
        try cluster.primary.start()
        try cluster.primary.connect().run(
          Self.insert, [.integer(Int64(number))], [("key", .string("n\(number)"))])
      }
      let client = try cluster.primary.connect()
      #expect(try client.integer("SELECT count(*) FROM log") == 10)
      #expect(try client.integer("SELECT count(DISTINCT id) FROM log") == 10)
    }

    /// The link breaks behind the request: the outcome is unknown, and the repeat makes one row of
    /// it.
    @Test func row37_linkCutAfterTheRequestWasSent() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      var unknown = 0
      for number in 0..<10 {
        try eventually("a link") {
          try cluster.replica.report()["upstream"]?["state"]?.text == "streaming"
        }
        let client = try cluster.replica.connect()
        let line = LineConnection.line(
          Self.insert, [.integer(Int64(number))], [("key", .string("cut\(number)"))])
        cluster.link.pause(.down)
        try client.send(line + "\n")
        try eventually("the row") {
          try cluster.primary.connect().integer("SELECT count(*) FROM log") == Int64(number + 1)
        }
        cluster.link.partition()
        let answer = try client.receive()
        if answer.error == "OUTCOME_UNKNOWN", !answer.retry { unknown += 1 }
        cluster.link.heal()
        try eventually("the repeat") { try client.request(line).error == nil }
      }
      #expect(unknown == 10)
      let client = try cluster.primary.connect()
      #expect(try client.integer("SELECT count(*) FROM log") == 10)
      try cluster.requireEqual()
    }
  }
}
