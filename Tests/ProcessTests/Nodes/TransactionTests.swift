// Interactive transactions, on the primary and through a replica.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct TransactionTests {
    private func makeCluster() throws -> Cluster {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try client.run("INSERT INTO t VALUES (1, 10), (2, 20)")
      try cluster.settle()
      return cluster
    }

    private func nodes(_ cluster: Cluster) -> [NodeProcess] { [cluster.primary, cluster.replica] }

    @Test func readsStayInTheirSnapshot() throws {
      let cluster = try makeCluster()
      let writer = try cluster.primary.connect()
      for node in nodes(cluster) {
        let client = try node.connect()
        #expect(try client.run("BEGIN").json["tx"] == .bool(true))
        let first = try client.run("SELECT n FROM t WHERE id = 1")
        #expect(first.json["tx"] == .bool(true))
        let before = first.integer ?? 0
        try writer.run("UPDATE t SET n = n + 1 WHERE id = 1")
        try cluster.settle()
        #expect(try client.integer("SELECT n FROM t WHERE id = 1") == before)
        let end = try client.run("COMMIT")
        #expect(end.json["tx"] == nil)
        #expect(try client.integer("SELECT n FROM t WHERE id = 1") == before + 1)
      }
    }

    @Test func firstWriteTakesTheTransactionToThePrimary() throws {
      let cluster = try makeCluster()
      for node in nodes(cluster) {
        // The replica shall read what the primary had committed before.
        try cluster.settle()
        let client = try node.connect()
        try client.run("BEGIN")
        let before = try client.integer("SELECT n FROM t WHERE id = 1")
        try client.run("UPDATE t SET n = n + 5 WHERE id = 1")
        #expect(try client.integer("SELECT n FROM t WHERE id = 1") == before + 5)
        try client.run("SAVEPOINT s")
        try client.run("DELETE FROM t")
        try client.run("ROLLBACK TO s")
        try client.run("RELEASE s")
        let other = try cluster.primary.connect()
        #expect(try other.integer("SELECT n FROM t WHERE id = 1") == before)
        try client.run("COMMIT")
        #expect(try client.integer("SELECT n FROM t WHERE id = 1") == before + 5)
        #expect(try other.integer("SELECT n FROM t WHERE id = 1") == before + 5)
        #expect(try other.integer("SELECT count(*) FROM t") == 2)
      }
      try cluster.requireEqual()
    }

    /// What others changed elsewhere does not matter, what the transaction read does.
    @Test func upgradeFailsOnlyWhenWhatWasReadHasChanged() throws {
      let cluster = try makeCluster()
      let writer = try cluster.primary.connect()
      for node in nodes(cluster) {
        try cluster.settle()
        let client = try node.connect()
        try client.run("BEGIN")
        _ = try client.integer("SELECT n FROM t WHERE id = 1")
        try writer.run("UPDATE t SET n = n + 1 WHERE id = 2")
        try client.run("UPDATE t SET n = 0 WHERE id = 1")
        try client.run("COMMIT")
        try client.run("BEGIN")
        _ = try client.integer("SELECT n FROM t WHERE id = 1")
        try writer.run("UPDATE t SET n = n + 1 WHERE id = 1")
        let answer = try client.query("UPDATE t SET n = 0 WHERE id = 1")
        #expect(answer.error == "SQLITE_BUSY_SNAPSHOT" && answer.retry, "\(answer.json)")
        _ = try client.query("ROLLBACK")
        try cluster.settle()
        #expect(try client.integer("SELECT n FROM t WHERE id = 1") == 1)
      }
    }

    @Test func immediateTransactionsCount() throws {
      let cluster = try makeCluster()
      let ports = nodes(cluster).map(\.listenPort)
      let threads = (0..<4).map { number in
        BackgroundThread {
          let client = try LineConnection(port: ports[number % 2])
          for _ in 0..<25 {
            try client.run("BEGIN IMMEDIATE")
            let n = try client.integer("SELECT n FROM t WHERE id = 1")
            try client.run("UPDATE t SET n = ? WHERE id = 1", [.integer(n + 1)])
            try client.run("COMMIT")
          }
        }
      }
      for thread in threads { try thread.join() }
      #expect(try cluster.primary.connect().integer("SELECT n FROM t WHERE id = 1") == 110)
      try cluster.requireEqual()
    }

    @Test func transactionThatTakesTooLongIsRolledBack() throws {
      let cluster = try makeCluster()
      let clients = try nodes(cluster).map { try $0.connect() }
      for client in clients {
        try client.run("BEGIN IMMEDIATE")
        try client.run("UPDATE t SET n = -1")
        // Others wait for the end of the transaction, and then go on.
        let other = try cluster.primary.connect()
        try other.run("UPDATE t SET n = n + 1 WHERE id = 2")
        let answer = try client.query("UPDATE t SET n = -2")
        #expect(answer.error == "TRANSACTION_TIMEOUT", "\(answer.json)")
        _ = try client.query("ROLLBACK")
        #expect(try client.integer("SELECT count(*) FROM t WHERE n < 0") == 0)
        try client.run("UPDATE t SET n = n + 1 WHERE id = 2")
      }
    }

    @Test func clientThatGoesAwayRollsBack() throws {
      let cluster = try makeCluster()
      for node in nodes(cluster) {
        for sql in ["BEGIN IMMEDIATE", "BEGIN"] {
          do {
            let client = try node.connect()
            try client.run(sql)
            try client.run("SELECT * FROM t")
            try client.run("UPDATE t SET n = -1")
          }
          let other = try cluster.primary.connect()
          other.seconds = 4
          try other.run("UPDATE t SET n = n + 1 WHERE id = 2")
          #expect(try other.integer("SELECT count(*) FROM t WHERE n < 0") == 0)
        }
      }
    }

    /// The link of a replica breaks while one of its clients has the writer.
    @Test func replicaThatGoesAwayRollsBack() throws {
      let cluster = try makeCluster()
      let client = try cluster.replica.connect()
      try client.run("BEGIN IMMEDIATE")
      try client.run("UPDATE t SET n = -1")
      cluster.link.cut()
      let other = try cluster.primary.connect()
      other.seconds = 4
      try other.run("UPDATE t SET n = n + 1 WHERE id = 2")
      #expect(try other.integer("SELECT count(*) FROM t WHERE n < 0") == 0)
      let answer = try client.query("COMMIT")
      #expect(answer.error != nil, "\(answer.json)")
      _ = try client.query("ROLLBACK")
      try eventually("writes through the replica") {
        try client.query("UPDATE t SET n = n + 1 WHERE id = 1").error == nil
      }
      try cluster.requireEqual()
    }

    @Test func batchIsAllOrNothing() throws {
      let cluster = try makeCluster()
      for node in nodes(cluster) {
        let client = try node.connect()
        let bad = try client.request(
          #"{"batch":[{"sql":"UPDATE t SET n=0"},{"sql":"INSERT INTO t VALUES (1,1)"}]}"#)
        #expect(bad.error == "SQLITE_CONSTRAINT_PRIMARYKEY")
        #expect(bad.json["error"]?["failed"]?.integer == 1, "\(bad.json)")
        #expect(try client.integer("SELECT count(*) FROM t WHERE n = 0") == 0)
        let good = try client.request("UPDATE t SET n = n + 1; UPDATE t SET n = n - 1")
        #expect(good.json["results"]?.elements.count == 2, "\(good.json)")
      }
    }
  }
}
