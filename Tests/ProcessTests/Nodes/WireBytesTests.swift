// How much travels for a small change, counted on the wire.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct WireBytesTests {
    private func makeCluster() throws -> Cluster {
      let cluster = try Cluster { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 100000)"
            + "INSERT INTO t SELECT i, randomblob(100) FROM s")
      }
      try cluster.settle()
      return cluster
    }

    @Test func updateOfOneRow() throws {
      let cluster = try makeCluster()
      var random = SeededGenerator(seed: 260)
      let client = try cluster.primary.connect()
      var costs: [Int] = []
      let start = (down: cluster.link.bytes(.down), up: cluster.link.bytes(.up))
      for _ in 0..<300 {
        let before = cluster.link.bytes(.down)
        let id = Int64.random(in: 1...100_000, using: &random)
        try client.run("UPDATE t SET v = ? WHERE id = ?", [blob(random.bytes(100)), .integer(id)])
        try cluster.settle()
        costs.append(cluster.link.bytes(.down) - before)
      }
      let down = cluster.link.bytes(.down) - start.down
      let up = cluster.link.bytes(.up) - start.up
      costs.sort()
      note(
        "UPDATE of 100 random bytes, one at a time: \(Double(down) / 300) bytes down (median \(costs[150]), "
          + "most \(costs[299])), \(Double(up) / 300) up")
      #expect(costs[285] <= 260, "95 of 100; the others may hold a heartbeat")
      #expect(down <= 260 * 300)
      try cluster.requireEqual()
    }

    @Test func burstOfUpdates() throws {
      let cluster = try makeCluster()
      var random = SeededGenerator(seed: 261)
      let client = try cluster.primary.connect()
      let before = (bytes: cluster.link.bytes(.down), txid: try cluster.primary.txid())
      let lines = (0..<2000).map { _ in
        LineConnection.line(
          "UPDATE t SET v = ? WHERE id = ?",
          [blob(random.bytes(100)), .integer(.random(in: 1...100_000, using: &random))]) + "\n"
      }
      try client.send(lines.joined())
      for _ in lines { #expect(try client.receive().error == nil) }
      try cluster.settle()
      let bytes = cluster.link.bytes(.down) - before.bytes
      let transactions = try cluster.primary.txid() - before.txid
      note(
        "a burst of 2000 such updates: \(bytes / 2000) bytes each, in \(transactions) transactions")
      #expect(bytes <= 260 * 2000)
      try cluster.requireEqual()
    }
  }
}
