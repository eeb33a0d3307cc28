// Interactive transactions: they read here, write at the primary, and never run half outside.

import EdgeTesting
import NIOCore
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct TransactionSessionTests {
  private func withTable(
    limits: ServingLimits = ServingLimits(), _ body: (TestNode, TestClient) async throws -> Void
  ) async throws {
    try await withNode(role: .replica, limits: limits) { (node) async throws in
      let client = try node.client()
      _ = try client.ask(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n); INSERT INTO t VALUES (1, 10), (2, 20)")
      try await body(node, client)
    }
  }

  @Test func aTransactionReadsItsSnapshot() async throws {
    try await withTable { (node, client) async throws in
      let other = try node.client()
      let begun = try client.ask("BEGIN")
      #expect(begun.isInTransaction)
      #expect(begun.token != nil)
      _ = try other.ask("UPDATE t SET n = 11 WHERE id = 1")
      let read = try client.ask("SELECT n FROM t WHERE id = 1")
      #expect(read.scalar == .integer(10))
      #expect(read.isInTransaction)
      #expect(read.token == begun.token)
      let batch = try client.ask("SELECT 1; SELECT n FROM t WHERE id = 1")
      #expect(batch["results"]?[1]?["rows"]?[0]?[0] == .integer(10))
      #expect(try client.ask("BEGIN").errorCode == "SQLITE_ERROR")
      let ended = try client.ask("COMMIT")
      #expect(ended["ok"] == .bool(true))
      #expect(!ended.isInTransaction)
      #expect(try client.ask("SELECT n FROM t WHERE id = 1").scalar == .integer(11))
      #expect(try client.ask("COMMIT").errorCode == "SQLITE_ERROR")
      #expect(try client.ask("ROLLBACK").errorCode == "SQLITE_ERROR")
      #expect(try client.ask("RELEASE x").errorCode == "SQLITE_ERROR")
    }
  }

  @Test func theFirstWriteCarriesTheReads() async throws {
    try await withTable { (node, client) async throws in
      node.writer.log.withLock { $0 = [] }
      _ = try client.ask("BEGIN")
      #expect(try client.ask(#"["SELECT n FROM t WHERE id = ?", 1]"#).scalar == .integer(10))
      #expect(try client.ask("SELECT id, n, 'x', 1.5, NULL, x'00ff' FROM t").isInTransaction)
      let written = try client.ask("UPDATE t SET n = n + 1")
      #expect(written["changes"] == .integer(2))
      #expect(written.isInTransaction)
      #expect(try client.ask("SELECT n FROM t WHERE id = 1").scalar == .integer(11))
      let committed = try client.ask("COMMIT")
      #expect(committed["ok"] == .bool(true))
      #expect(committed.token != nil)
      guard case .begin(let basis?, _)? = node.writer.log.withLock({ $0.first?.work }) else {
        Issue.record("the transaction should have been opened with a basis")
        return
      }
      #expect(basis.reads.count == 2)
      #expect(try client.ask("SELECT sum(n) FROM t").scalar == .integer(32))
      #expect(node.node.readers.pool.counts.readers <= 2)
    }
  }

  @Test func changedReadsAreRefusedAndTheSnapshotStays() async throws {
    try await withTable { (node, client) async throws in
      let other = try node.client()
      _ = try client.ask("BEGIN")
      _ = try client.ask("SELECT n FROM t WHERE id = 1")
      _ = try other.ask("UPDATE t SET n = 99 WHERE id = 1")
      let refused = try client.ask("UPDATE t SET n = 1 WHERE id = 2")
      #expect(refused.errorCode == "SQLITE_BUSY_SNAPSHOT")
      #expect(refused["error"]?["retry"] == .bool(true))
      #expect(refused.isInTransaction)
      #expect(try client.ask("SELECT n FROM t WHERE id = 1").scalar == .integer(10))
      #expect(try client.ask("ROLLBACK")["ok"] == .bool(true))
    }
  }

  @Test func tooManyReadsCannotWrite() async throws {
    try await withTable { (node, client) async throws in
      _ = try client.ask("BEGIN")
      for _ in 0...TransactionBasis.readsMax { _ = try client.ask("SELECT 1") }
      #expect(try client.ask("DELETE FROM t").errorCode == "SQLITE_BUSY_SNAPSHOT")
      #expect(try client.ask("ROLLBACK")["ok"] == .bool(true))
      #expect(try client.ask("SELECT count(*) FROM t").scalar == .integer(2))
    }
  }

  @Test func immediateTransactionsRunAtThePrimary() async throws {
    try await withTable { (node, client) async throws in
      #expect(try client.ask("BEGIN IMMEDIATE").isInTransaction)
      #expect(try client.ask("CREATE TABLE u(a)").isInTransaction)
      #expect(try client.ask("INSERT INTO u VALUES (1)")["changes"] == .integer(1))
      #expect(try client.ask("SELECT count(*) FROM u").scalar == .integer(1))
      let error = try client.ask("INSERT INTO t VALUES (1, 1)")
      #expect(error.errorCode == "SQLITE_CONSTRAINT_PRIMARYKEY")
      #expect(error.isInTransaction)
      let batch = try client.ask("INSERT INTO u VALUES (2); INSERT INTO t VALUES (1, 1)")
      #expect(batch.errorCode == "SQLITE_CONSTRAINT_PRIMARYKEY")
      #expect(batch["error"]?["failed"] == .integer(1))
      #expect(try client.ask("SELECT count(*) FROM u").scalar == .integer(1))
      let both = try client.ask("INSERT INTO u VALUES (2); SELECT count(*) FROM u")
      #expect(both["results"]?.count == 2)
      #expect(both["results"]?[1]?["rows"]?[0]?[0] == .integer(2))
      let ended = try client.ask("ROLLBACK")
      #expect(!ended.isInTransaction)
      #expect(try client.ask("SELECT * FROM u").errorCode == "SQLITE_ERROR")
    }
  }

  @Test func savepointsBeginAndEndTransactions() async throws {
    try await withTable { (node, client) async throws in
      #expect(try client.ask("SAVEPOINT a").isInTransaction)
      _ = try client.ask("UPDATE t SET n = 0")
      _ = try client.ask("SAVEPOINT b")
      _ = try client.ask("DELETE FROM t")
      #expect(try client.ask("ROLLBACK TO b").isInTransaction)
      #expect(try client.ask("RELEASE b").isInTransaction)
      #expect(!(try client.ask("RELEASE A")).isInTransaction)
      #expect(try client.ask("SELECT sum(n) FROM t").scalar == .integer(0))
      _ = try client.ask("BEGIN")
      _ = try client.ask("SELECT n FROM t")
      #expect(try client.ask("SAVEPOINT a").isInTransaction)
      #expect(try client.ask("RELEASE a").isInTransaction)
      #expect(!(try client.ask("COMMIT")).isInTransaction)
    }
  }

  @Test func whatFollowsALostTransactionDoesNotRunOutsideOfIt() async throws {
    try await withTable { (node, client) async throws in
      _ = try client.ask("BEGIN IMMEDIATE")
      _ = try client.ask("UPDATE t SET n = 1")
      try node.writer.expireNow()
      client.send(
        "UPDATE t SET n = 2\nUPDATE t SET n = 3\nSELECT 1\nCOMMIT\nSELECT sum(n) FROM t\n")
      #expect(try client.answer().errorCode == "TRANSACTION_TIMEOUT")
      #expect(try client.answer().errorCode == "TRANSACTION_TIMEOUT")
      #expect(try client.answer().errorCode == "TRANSACTION_TIMEOUT")
      #expect(try client.answer().errorCode == "TRANSACTION_TIMEOUT")
      let after = try client.answer()
      #expect(after.scalar == .integer(30))
      #expect(!after.isInTransaction)
    }
  }

  @Test func readTransactionsEndAfterTheirTime() async throws {
    var limits = ServingLimits()
    limits.readTransactionMilliseconds = 200
    try await withTable(limits: limits) { (node, client) async throws in
      _ = try client.ask("BEGIN")
      _ = try client.ask("SELECT n FROM t")
      var answer = try client.ask("SELECT n FROM t")
      while answer.errorCode == nil { answer = try client.ask("SELECT n FROM t") }
      #expect(answer.errorCode == "TRANSACTION_TIMEOUT" || answer.errorCode == "STATEMENT_TIMEOUT")
      #expect(try client.ask("UPDATE t SET n = 0").errorCode == "TRANSACTION_TIMEOUT")
      #expect(try client.ask("ROLLBACK")["ok"] == .bool(true))
      #expect(try client.ask("SELECT sum(n) FROM t").scalar == .integer(30))
    }
  }

  @Test func aClientThatLeavesEndsItsTransaction() async throws {
    try await withTable { (node, client) async throws in
      var leaving: TestClient? = try node.client()
      _ = try leaving?.ask("BEGIN IMMEDIATE")
      _ = try leaving?.ask("UPDATE t SET n = 0")
      leaving = nil
      try eventually("the end of the transaction") { try !node.writer.hasOpenTransaction }
      var reading: TestClient? = try node.client()
      _ = try reading?.ask("BEGIN")
      reading?.send(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT n FROM c\n")
      _ = reading?.line()
      reading = nil
      try eventually("one connection") { node.server.connectionCount == 1 }
      #expect(try client.ask("BEGIN").isInTransaction)
      #expect(try client.ask("SELECT sum(n) FROM t").scalar == .integer(30))
    }
  }

  @Test func foreignKeysAreTheSessionsSetting() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      _ = try client.ask(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id))")
      #expect(
        try client.ask("INSERT INTO c VALUES (5)").errorCode == "SQLITE_CONSTRAINT_FOREIGNKEY")
      _ = try client.ask("PRAGMA foreign_keys=OFF")
      #expect(try client.ask("INSERT INTO c VALUES (5)")["changes"] == .integer(1))
      _ = try client.ask("BEGIN IMMEDIATE")
      _ = try client.ask("PRAGMA foreign_keys=ON")
      #expect(try client.ask("PRAGMA foreign_keys").scalar == .integer(0))
      _ = try client.ask("COMMIT")
      _ = try client.ask("PRAGMA foreign_keys=ON")
      let other = try node.client()
      #expect(try other.ask("INSERT INTO c VALUES (6)").errorCode == "SQLITE_CONSTRAINT_FOREIGNKEY")
    }
  }
}
