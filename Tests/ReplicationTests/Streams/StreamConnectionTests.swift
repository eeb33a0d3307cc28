// What a stream has at the primary beside its transaction: TEMP objects, settings, and statements
// that run outside of transactions; and the time limits.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct StreamConnectionTests {
  @Test(arguments: [NodeRole.primary, .replica])
  func temporaryTablesBelongToTheirStream(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let (one, two) = (try await cluster.stream(), try await cluster.stream())
      try await one.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      for (stream, number) in [(one, 1), (two, 2)] {
        try await stream.rows("CREATE TEMP TABLE mine(n)")
        try await stream.rows("INSERT INTO mine VALUES (\(number))")
        #expect(try await stream.hasState)
      }
      try await two.rows("INSERT INTO mine VALUES (3)")
      #expect(try await one.rows("SELECT n FROM mine") == [[.integer(1)]])
      #expect(try await two.rows("SELECT count(*) FROM temp.mine") == [[.integer(2)]])
      // Beside them the database is the one that everybody has.
      try await one.rows("INSERT INTO t SELECT n + 10 FROM mine")
      let plain = try await cluster.stream()
      try await plain.rows("INSERT INTO t VALUES (1)")
      #expect(try await one.rows("SELECT count(*) FROM t") == [[.integer(2)]])
      #expect(try await plain.code("SELECT * FROM mine") == "SQLITE_ERROR")
      #expect(try await plain.hasState == false)
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func aTemporaryTableMayBeMadeInATransaction(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      try await stream.rows("BEGIN")
      try await stream.rows("INSERT INTO t VALUES (1)")
      try await stream.rows("CREATE TEMP TABLE x AS SELECT a + 1 AS b FROM t")
      try await stream.rows("INSERT INTO t SELECT b FROM x")
      try await stream.rows("COMMIT")
      #expect(try await stream.rows("SELECT count(*) FROM t, x") == [[.integer(2)]])
      let other = try await cluster.stream()
      try await other.rows("BEGIN IMMEDIATE")
      #expect(try await other.code("SELECT * FROM x") == "SQLITE_ERROR")
      try await other.rows("ROLLBACK")
    }
  }

  @Test func onlySoManyStreamsHaveThem() async throws {
    var limits = ServingLimits()
    limits.streamConnectionsMax = 2
    try await StreamCluster.with(limits: limits) { cluster in
      let streams = [try await cluster.stream(), try await cluster.stream()]
      for stream in streams { try await stream.rows("CREATE TEMP TABLE x(a)") }
      let late = try await cluster.stream()
      #expect(try await late.code("CREATE TEMP TABLE x(a)") == "OVERLOADED")
      #expect(try await late.rows("SELECT 1") == [[.integer(1)]])
      try await streams[0].close()
      try await late.rows("CREATE TEMP TABLE x(a)")
    }
  }

  @Test func oneThatIsLeftUnusedIsClosed() async throws {
    var limits = ServingLimits()
    limits.streamConnectionIdleMilliseconds = 20
    limits.streamConnectionsMax = 1
    try await StreamCluster.with(limits: limits) { cluster in
      let (stream, other) = (try await cluster.stream(), try await cluster.stream())
      try await stream.rows("CREATE TEMP TABLE x(a)")
      let deadline = Deadline.seconds(30)
      while try await other.code("CREATE TEMP TABLE y(a)") != nil {
        guard !deadline.isOver else { throw TestFailure("the connection is still there") }
      }
      #expect(try await stream.code("SELECT * FROM x") == "STREAM_EXPIRED")
      #expect(try await stream.code("SELECT * FROM x") == "SQLITE_ERROR")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func rowidsAndSettingsDoNotLeak(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let (one, two) = (try await cluster.stream(), try await cluster.stream())
      try await one.rows("CREATE TABLE p(a INTEGER PRIMARY KEY)")
      try await one.rows("CREATE TABLE c(a INTEGER PRIMARY KEY, p REFERENCES p)")
      #expect(try await one.result("INSERT INTO p VALUES (7)").lastInsertRowid == 7)
      #expect(try await two.result("INSERT INTO p VALUES (8)").lastInsertRowid == 8)
      #expect(try await one.rows("SELECT last_insert_rowid()") == [[.integer(7)]])
      try await one.rows("INSERT INTO c VALUES (1, last_insert_rowid())")
      #expect(
        try await two.rows("SELECT last_insert_rowid(), p FROM c") == [[.integer(8), .integer(7)]])
      let fresh = try await cluster.stream()
      #expect(try await fresh.rows("SELECT last_insert_rowid()") == [[.integer(0)]])

      try await one.rows("PRAGMA foreign_keys = OFF")
      #expect(try await one.rows("PRAGMA foreign_keys") == [[.integer(0)]])
      try await one.rows("INSERT INTO c VALUES (2, 99)")
      try await one.rows("BEGIN")
      try await one.rows("INSERT INTO c VALUES (3, 99)")
      try await one.rows("COMMIT")
      #expect(try await two.code("INSERT INTO c VALUES (4, 99)") == "SQLITE_CONSTRAINT_FOREIGNKEY")
      let mixed = try await two.run([
        .sql("INSERT INTO p VALUES (9)"), .sql("PRAGMA foreign_keys = 0"),
        .sql("INSERT INTO c VALUES (5, 99)"), .sql("PRAGMA foreign_keys = 1"),
        .sql("INSERT INTO c VALUES (6, 99)"),
      ])
      #expect(mixed.outcomes.map(\.isOK) == [true, true, true, true, false])
      #expect(
        try await fresh.code("INSERT INTO c VALUES (7, 99)") == "SQLITE_CONSTRAINT_FOREIGNKEY")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func maintenanceRunsOutsideOfTransactions(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
      try await stream.rows(
        "INSERT INTO t WITH c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<500) "
          + "SELECT x, randomblob(500) FROM c")
      try await stream.rows("CREATE INDEX i ON t(b)")
      try await stream.rows("DELETE FROM t WHERE a > 10")
      let run = try await stream.run([
        .sql("VACUUM"), .sql("ANALYZE"), .sql("REINDEX"), .sql("PRAGMA optimize"),
        .sql("PRAGMA user_version = 5"), .sql("SELECT count(*) FROM sqlite_stat1"),
      ])
      #expect(run.outcomes.map(\.code) == [nil, nil, nil, nil, nil, nil])
      #expect(try await stream.rows("PRAGMA user_version") == [[.integer(5)]])
      try await stream.rows("BEGIN IMMEDIATE")
      #expect(try await stream.code("VACUUM") == "SQLITE_ERROR")
      try await stream.rows("ROLLBACK")
      for sql in ["ATTACH '/tmp/x' AS x", "VACUUM INTO '/tmp/x'", "PRAGMA journal_mode = DELETE"] {
        #expect(try await stream.code(sql) == "NOT_ALLOWED", "\(sql)")
      }
      try await stream.rows("CREATE TEMP TABLE x(a)")
      #expect(try await stream.code("ATTACH '/tmp/x' AS y") == "NOT_ALLOWED")
      #expect(try await stream.code("PRAGMA temp_store = 2") == "NOT_ALLOWED")
      try await stream.rows("VACUUM")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func anAbandonedTransactionFreesTheWriter(role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.transactionMilliseconds = 200
    try await StreamCluster.with(role, limits: limits) { cluster in
      let (stream, other) = (try await cluster.stream(), try await cluster.stream())
      try await other.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      try await stream.rows("BEGIN IMMEDIATE")
      try await stream.rows("INSERT INTO t VALUES (1)")
      try await other.rows("INSERT INTO t VALUES (2)")
      #expect(try await stream.code("INSERT INTO t VALUES (3)") == "TRANSACTION_TIMEOUT")
      // What the client has sent already must not run by itself.
      #expect(try await stream.code("INSERT INTO t VALUES (4)") == "TRANSACTION_TIMEOUT")
      #expect(try await stream.isAutocommit == false)
      #expect(try await stream.code("COMMIT") == "TRANSACTION_TIMEOUT")
      #expect(try await stream.isAutocommit)
      try await stream.rows("INSERT INTO t VALUES (5)")
      #expect(
        try await stream.rows("SELECT a FROM t ORDER BY a") == [[.integer(2)], [.integer(5)]])
      // Within one run, too.
      let slow =
        "WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
      let run = try await stream.run([
        .sql("BEGIN IMMEDIATE"), .sql("INSERT INTO t VALUES (6)"), .sql(slow),
        .sql("INSERT INTO t VALUES (7)"), .sql("ROLLBACK"), .sql("INSERT INTO t VALUES (8)"),
      ])
      #expect(
        run.outcomes.map(\.code) == [
          nil, nil, "STATEMENT_TIMEOUT", "TRANSACTION_TIMEOUT", nil, nil,
        ])
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func aStreamThatClosesFreesTheWriter(role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.transactionMilliseconds = 600_000
    try await StreamCluster.with(role, limits: limits) { cluster in
      let (stream, other) = (try await cluster.stream(), try await cluster.stream())
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      try await stream.rows("BEGIN IMMEDIATE")
      try await stream.rows("INSERT INTO t VALUES (1)")
      try await stream.close()
      try await other.rows("INSERT INTO t VALUES (2)")
      #expect(try await other.rows("SELECT a FROM t") == [[.integer(2)]])
    }
  }
}
