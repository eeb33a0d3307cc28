// Streams on a primary and on a replica: the same steps, the same outcomes; what differs is how
// often the primary is asked.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct StreamTests {
  @Test(arguments: [NodeRole.primary, .replica])
  func conditionsDecide(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      let run = try await stream.run([
        .sql("INSERT INTO t VALUES (1)"),
        .sql("INSERT INTO t VALUES (1)"),
        .sql("INSERT INTO t VALUES (2)", if: .ok(1)),
        .sql("INSERT INTO t VALUES (3)", if: .error(1)),
        .sql("INSERT INTO t VALUES (4)", if: .error(2)),
        .sql("INSERT INTO t VALUES (5)", if: .and([])),
        .sql("INSERT INTO t VALUES (6)", if: .or([])),
        .sql("INSERT INTO t VALUES (7)", if: .and([.ok(0), .not(.ok(1)), .isAutocommit])),
        ProgramStep(.autocommit),
        .sql("SELECT a FROM t ORDER BY a", if: .or([.ok(1), .ok(3)])),
      ])
      #expect(run.outcomes[1].code == "SQLITE_CONSTRAINT_PRIMARYKEY")
      #expect(run.outcomes[2] == .skipped && run.outcomes[6] == .skipped)
      #expect(run.outcomes[8] == .autocommit(true))
      #expect(run.outcomes[9].rows == [1, 3, 4, 5, 7].map { [.integer($0)] })
      #expect(run.failure == nil && run.isAutocommit && run.token != nil)
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func aTransactionInOneRunIsOneRequest(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      _ = cluster.access.take()
      let before = cluster.primary.tracker.position.txid
      let run = try await stream.run(
        ProgramStep.batch((1...20).map { "INSERT INTO t VALUES (\($0))" }))
      #expect(run.outcomes.dropLast().allSatisfy(\.isOK) && run.outcomes.last == .skipped)
      #expect(cluster.access.take().count == 1)
      #expect(cluster.primary.tracker.position.txid.rawValue == before.rawValue + 1)
      #expect(try await stream.rows("SELECT count(*) FROM t") == [[.integer(20)]])
      #expect(cluster.access.take().isEmpty)
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func aFailedStepRollsItsBatchBack(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      let run = try await stream.run(
        ProgramStep.batch([
          "INSERT INTO t VALUES (1)", "INSERT INTO nowhere VALUES (1)", "INSERT INTO t VALUES (2)",
        ]))
      #expect(run.outcomes.map(\.isOK) == [true, true, false, false, false, true])
      #expect(run.isAutocommit)
      #expect(try await stream.rows("SELECT * FROM t").isEmpty)
      #expect(try await stream.hasState == false)
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func transactionsThatReadStayHere(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let (stream, other) = (try await cluster.stream(), try await cluster.stream())
      try await other.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      try await other.rows("INSERT INTO t VALUES (1)")
      _ = cluster.access.take()
      let run = try await stream.run(
        ProgramStep.batch(["SELECT * FROM t", "SELECT max(a) FROM t"]))
      #expect(run.outcomes[2].rows == [[.integer(1)]])
      #expect(cluster.access.take().isEmpty)
      try await stream.rows("BEGIN")
      #expect(try await stream.isAutocommit == false)
      #expect(try await stream.rows("SELECT count(*) FROM t") == [[.integer(1)]])
      try await other.rows("INSERT INTO t VALUES (2)")
      #expect(try await stream.rows("SELECT count(*) FROM t") == [[.integer(1)]], "its snapshot")
      #expect(try await stream.code("BEGIN") == "SQLITE_ERROR")
      _ = cluster.access.take()
      try await stream.rows("COMMIT")
      #expect(try await stream.rows("SELECT count(*) FROM t") == [[.integer(2)]])
      #expect(try await stream.code("COMMIT") == "SQLITE_ERROR")
      #expect(cluster.access.take().isEmpty)
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func theFirstWriteTakesATransactionToThePrimary(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, n)")
      try await stream.rows("INSERT INTO t VALUES (1, 10)")
      _ = cluster.access.take()
      try await stream.rows("BEGIN DEFERRED")
      #expect(try await stream.rows("SELECT n FROM t") == [[.integer(10)]])
      #expect(cluster.access.take().isEmpty)
      try await stream.rows("UPDATE t SET n = n + 1")
      #expect(try await stream.rows("SELECT n FROM t") == [[.integer(11)]], "its own write")
      let other = try await cluster.stream()
      #expect(try await other.rows("SELECT n FROM t") == [[.integer(10)]], "nobody else's")
      let requests = cluster.access.take()
      #expect(requests.count == 2)
      guard case .program(let program) = requests.first?.work else {
        throw TestFailure("no program")
      }
      #expect(program.begins && program.basis?.reads.count == 1)
      try await stream.rows("COMMIT")
      #expect(try await stream.isAutocommit)
      #expect(try await stream.rows("SELECT n FROM t") == [[.integer(11)]])
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func readsThatChangedAreNoticedAtTheFirstWrite(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let (stream, other) = (try await cluster.stream(), try await cluster.stream())
      try await other.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, n)")
      try await other.rows("INSERT INTO t VALUES (1, 10), (2, 20)")
      try await stream.rows("BEGIN")
      try await stream.rows("SELECT n FROM t WHERE a = 1")
      try await other.rows("UPDATE t SET n = 11 WHERE a = 1")
      #expect(try await stream.code("UPDATE t SET n = n + 1") == "SQLITE_BUSY_SNAPSHOT")
      #expect(try await stream.isAutocommit == false)
      _ = cluster.access.take()
      #expect(try await stream.code("UPDATE t SET n = n + 1") == "SQLITE_BUSY_SNAPSHOT")
      try await stream.rows("ROLLBACK")
      #expect(cluster.access.take().isEmpty, "it is known by now")
      try await stream.rows("BEGIN")
      try await stream.rows("SELECT n FROM t WHERE a = 1")
      try await other.rows("UPDATE t SET n = 21 WHERE a = 2")
      try await stream.rows("UPDATE t SET n = n + 1 WHERE a = 1")
      try await stream.rows("COMMIT")
      #expect(
        try await stream.rows("SELECT n FROM t ORDER BY a") == [[.integer(12)], [.integer(21)]])
    }
  }

  @Test func aStreamReadsItsOwnWritesOnAReplica() async throws {
    try await StreamCluster.with(.replica) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, n)")
      try await stream.rows("INSERT INTO t VALUES (1, 0)")
      var right = 0
      for number in 1...200 as ClosedRange<Int64> {
        try await stream.rows("UPDATE t SET n = \(number)")
        if try await stream.rows("SELECT n FROM t") == [[.integer(number)]] { right += 1 }
      }
      #expect(right == 200)
      #expect(cluster.access.take().count == 202, "reads stayed here")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func savepointsBeginAndEndTransactions(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      try await stream.rows("SAVEPOINT one")
      try await stream.rows("INSERT INTO t VALUES (1)")
      let run = try await stream.run([
        .sql("SAVEPOINT two"), .sql("INSERT INTO t VALUES (2)"), .sql("ROLLBACK TO two"),
        ProgramStep(.autocommit),
      ])
      #expect(run.outcomes.allSatisfy(\.isOK) && run.outcomes[3] == .autocommit(false))
      try await stream.rows("RELEASE one")
      #expect(try await stream.isAutocommit)
      #expect(try await stream.rows("SELECT a FROM t") == [[.integer(1)]])
      #expect(try await stream.code("RELEASE one") == "SQLITE_ERROR")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func aCredentialThatReadsCannotWrite(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let admin = try await cluster.stream()
      try await admin.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      _ = cluster.access.take()
      var options = RequestOptions()
      options.token = cluster.primary.tracker.position.token
      let stream = try await cluster.stream(access: .read)
      let denied = [
        "INSERT INTO t VALUES (1)", "BEGIN IMMEDIATE", "SAVEPOINT s", "VACUUM",
        "CREATE TEMP TABLE x(a)", "DROP TABLE t", "INSERT INTO nowhere VALUES (1)",
      ]
      for sql in denied { #expect(try await stream.code(sql, options) == "AUTH_DENIED", "\(sql)") }
      let run = try await stream.run(ProgramStep.batch(["SELECT * FROM t"]))
      #expect(run.outcomes[2].isOK)
      try await stream.rows("BEGIN")
      try await stream.rows("SELECT * FROM t")
      #expect(try await stream.code("DELETE FROM t") == "AUTH_DENIED")
      try await stream.rows("ROLLBACK")
      #expect(cluster.access.take().isEmpty, "nothing has travelled")
      let nobody = try await cluster.stream(access: .none)
      #expect(try await nobody.run([.sql("SELECT 1")]).failure?.code == "AUTH_DENIED")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func tokensAreObeyed(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      _ = cluster.access.take()
      var options = RequestOptions()
      options.read = .primary
      let run = try await stream.run([.sql("SELECT count(*) FROM t"), .sql("SELECT 7")], options)
      #expect(run.outcomes.map(\.rows) == [[[.integer(0)]], [[.integer(7)]]])
      #expect(cluster.access.take().count == (role == .replica ? 1 : 0))
      options.read = .latest
      #expect(try await stream.rows("SELECT count(*) FROM t", options) == [[.integer(0)]])
      options.read = .local
      options.waitMilliseconds = 1
      options.token = cluster.primary.tracker.position.token
      options.token?.txid = TXID(1000)
      let late = try await stream.run([.sql("SELECT 1"), .sql("SELECT 2")], options)
      #expect(late.failure?.code == "TOKEN_TIMEOUT")
      #expect(late.outcomes.map(\.code) == ["TOKEN_TIMEOUT", "TOKEN_TIMEOUT"])
      options.token?.epoch = Epoch(9)
      options.lagPolicy = .error
      let lost = try await stream.run([.sql("INSERT INTO t VALUES (1)")], options)
      #expect(lost.outcomes[0].code == "TOKEN_EPOCH")
    }
  }
}
