// A connection sees what it wrote, and a token carries that to any other connection of any node.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct OwnWriteTests {
    private static let count: Int64 = 1000

    @Test func writeIsSeenByTheNextReadOnTheSameConnection() throws {
      let cluster = try Cluster()
      let client = try cluster.replica.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try client.run("INSERT INTO t VALUES (1, 0)")
      var seen: Int64 = 0
      for number in 1...Self.count {
        try client.run("UPDATE t SET n = ? WHERE id = 1", [.integer(number)])
        if try client.integer("SELECT n FROM t WHERE id = 1") == number { seen += 1 }
      }
      #expect(seen == Self.count)
    }

    /// The same without waiting for the write's answer.
    @Test func writeIsSeenByAReadThatWasSentWithIt() throws {
      let cluster = try Cluster()
      let client = try cluster.replica.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try client.run("INSERT INTO t VALUES (1, 0)")
      for number in 1...200 {
        try client.send("UPDATE t SET n = \(number) WHERE id = 1\nSELECT n FROM t WHERE id = 1\n")
        #expect(try client.receive().error == nil)
        #expect(try client.receive().integer == Int64(number))
      }
    }

    @Test func tokenCarriesTheWriteToTheOtherReplica() throws {
      let cluster = try Cluster(replicas: 2)
      let writer = try cluster.replicas[0].connect()
      let reader = try cluster.replicas[1].connect()
      try writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try writer.run("INSERT INTO t VALUES (1, 0)")
      var seen: Int64 = 0
      for number in 1...Self.count {
        let token =
          try writer.run("UPDATE t SET n = ? WHERE id = 1", [.integer(number)]).token ?? ""
        let answer = try reader.query(
          "SELECT n FROM t", [], [("token", .string(token)), ("on_lag", "error")])
        if answer.integer == number { seen += 1 }
      }
      #expect(seen == Self.count)
    }

    @Test func tokenWorksOverNewConnections() throws {
      let cluster = try Cluster(replicas: 2)
      try cluster.primary.connect().run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try cluster.primary.connect().run("INSERT INTO t VALUES (1, 0)")
      let nodes = [cluster.primary] + cluster.replicas
      var seen: Int64 = 0
      for number in 1...Self.count {
        let writer = try nodes[Int(number) % 3].connect()
        let token =
          try writer.run("UPDATE t SET n = ? WHERE id = 1", [.integer(number)]).token ?? ""
        let reader = try nodes[Int(number + 1) % 3].connect()
        let answer = try reader.query(
          "SELECT n FROM t", [], [("token", .string(token)), ("on_lag", "error")])
        if answer.integer == number { seen += 1 }
      }
      #expect(seen == Self.count)
    }
  }
}
