// Programs as the writer gets them, and what it tells of their statements.

import EdgeTesting
import NIOCore
import NIOPosix
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct ProgramTests {
  private func ask(_ cluster: StreamCluster, _ request: EngineRequest) async throws
    -> EngineResponse
  {
    try await start(cluster, request).get()
  }

  private func start(
    _ cluster: StreamCluster, _ request: EngineRequest
  ) -> EventLoopFuture<EngineResponse> {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let promise = loop.makePromise(of: EngineResponse.self)
    cluster.access.submit(request, on: loop) { promise.succeed($0) }
    return promise.futureResult
  }

  private func program(_ steps: [ProgramStep]) -> EngineRequest {
    EngineRequest(.program(StreamProgram(steps: steps)))
  }

  /// Single writes of many streams share one commit, with questions after them, and beside one that
  /// fails.
  @Test func singleWritesShareACommit() async throws {
    try await StreamCluster.with { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      let held = try await ask(cluster, program([.sql("BEGIN IMMEDIATE")]))
      let before = cluster.primary.tracker.position.txid.rawValue
      let waiting = (0..<50).map { number in
        start(
          cluster,
          program([
            .sql("INSERT INTO t VALUES (\(number == 30 ? 29 : number))"), ProgramStep(.autocommit),
            .sql("SELECT last_insert_rowid()", if: .isAutocommit),
          ]))
      }
      let id = try #require(held.transaction)
      let ended = try await ask(
        cluster,
        EngineRequest(.program(StreamProgram(steps: [.sql("ROLLBACK")], transaction: id))))
      #expect(ended.transaction == nil && ended.isAutocommit)
      for (number, future) in waiting.enumerated() {
        let response = try await future.get()
        #expect(response.steps[0].isOK == (number != 30))
        #expect(response.steps[1] == .autocommit(true))
        if number != 30 { #expect(response.steps[2].rows == [[.integer(Int64(number))]]) }
      }
      #expect(cluster.primary.tracker.position.txid.rawValue == before + 1)
      #expect(try await stream.rows("SELECT count(*) FROM t") == [[.integer(49)]])
    }
  }

  @Test func rightsAreCheckedAtTheWriter() async throws {
    try await StreamCluster.with(.replica) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY)")
      let insert = StatementRequest(sql: SQLText("INSERT INTO t VALUES (1)"))
      let works: [EngineRequest.Work] = [
        .write([insert]), .begin(basis: nil, [insert]), .proceed(transaction: 1, [insert]),
        .program(StreamProgram(steps: [ProgramStep(.execute(insert, wantsRows: true))])),
      ]
      for work in works {
        var request = EngineRequest(work)
        request.access = .read
        #expect(try await ask(cluster, request).failure?.error.code == "AUTH_DENIED")
      }
      var reading = StreamProgram(steps: [.sql("SELECT count(*) FROM t"), .sql("DELETE FROM t")])
      reading.isReading = true
      var request = EngineRequest(.program(reading))
      request.access = .read
      let response = try await ask(cluster, request)
      #expect(response.steps[0].rows == [[.integer(0)]])
      #expect(response.steps[1].code == "READ_ONLY")
      request.access = .none
      #expect(try await ask(cluster, request).failure?.error.code == "AUTH_DENIED")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func statementsAreDescribed(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, b VARCHAR(9))")
      let run = try await stream.run([
        ProgramStep(.describe(SQLText("SELECT a, b AS c, 1+1 FROM t WHERE a = ? AND b = :x"))),
        ProgramStep(.describe(SQLText("CREATE TEMP TABLE x(a)"))),
        ProgramStep(.describe(SQLText("EXPLAIN DELETE FROM t"))),
        ProgramStep(.describe(SQLText("SELECT * FROM nowhere"))),
        ProgramStep(.describe(SQLText("  "))),
      ])
      #expect(
        run.outcomes[0]
          == .description(
            StatementDescription(
              parameters: [nil, ":x"],
              columns: [
                .init(name: "a", declaredType: "INTEGER"),
                .init(name: "c", declaredType: "VARCHAR(9)"), .init(name: "1+1", declaredType: nil),
              ])))
      #expect(run.outcomes[1].isOK)
      if case .description(let found) = run.outcomes[2] { #expect(found.isExplain) }
      #expect(run.outcomes[3].code == "SQLITE_ERROR" && run.outcomes[4].code == "PROTOCOL")
      _ = try await stream.rows("BEGIN IMMEDIATE")
      _ = try await stream.rows("CREATE TABLE u(a TEXT)")
      let inside = try await stream.run([ProgramStep(.describe(SQLText("SELECT a FROM u")))])
      #expect(inside.outcomes[0].isOK, "the transaction's own schema")
      try await stream.rows("ROLLBACK")
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func rowsAreCounted(role: NodeRole) async throws {
    try await StreamCluster.with(role) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)")
      try await stream.rows("CREATE INDEX i ON t(b)")
      try await stream.rows("CREATE TABLE log(a)")
      let filled = try await stream.result(
        "INSERT INTO t WITH c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<100) "
          + "SELECT x, x % 10, x FROM c")
      #expect(filled.counts.written == 100 && filled.changes == 100)
      let reads: [(String, Int64)] = [
        ("SELECT * FROM t", 100), ("SELECT * FROM t WHERE c = 5", 100), ("SELECT 1", 0),
        ("SELECT * FROM t WHERE a = 7", 1), ("SELECT * FROM t WHERE a = 777", 0),
        ("SELECT sum(c) FROM t WHERE b = 3", 10), ("SELECT count(*) FROM t", 100),
        ("SELECT * FROM t ORDER BY c", 100), ("SELECT * FROM t LIMIT 5", 5),
      ]
      for (sql, count) in reads {
        // Twice: the counters of a statement that is kept must not add up.
        for _ in 0..<2 {
          let result = try await stream.result(sql)
          #expect(result.counts == RowCounts(read: count), "\(sql)")
          #expect(result.changes == nil)
        }
      }
      try await stream.rows(
        "CREATE TRIGGER w AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (new.a); END")
      let updated = try await stream.result("UPDATE t SET c = 0 WHERE a < 4").counts
      // Beside a trigger SQLite collects the rows first: a second loop stands at them again.
      #expect((3...6).contains(updated.read), "\(updated)")
      #expect(updated.written == 6)
      #expect(
        try await stream.result("DELETE FROM t WHERE a = 50").counts
          == RowCounts(read: 1, written: 1))
      let types = try await stream.result("SELECT a, a + 1 FROM t LIMIT 1").declaredTypes
      #expect(types == ["INTEGER", nil])
    }
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func resultsAreBounded(role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.responseBytesMax = 100_000
    try await StreamCluster.with(role, limits: limits) { cluster in
      let stream = try await cluster.stream()
      try await stream.rows("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
      try await stream.rows("INSERT INTO t VALUES (1, zeroblob(40000))")
      let step = ProgramStep.sql("SELECT b FROM t")
      let local = try await stream.run([step, step, step])
      #expect(local.outcomes.map(\.code) == [nil, "RESPONSE_TOO_LARGE", "RESPONSE_TOO_LARGE"])
      let remote = try await stream.run([
        .sql("INSERT INTO t VALUES (2, 0)"), step, step, .sql("INSERT INTO t VALUES (3, 0)"),
      ])
      #expect(remote.outcomes.map(\.code) == [nil, nil, "RESPONSE_TOO_LARGE", nil])
      let unwanted = try await stream.run([.sql("SELECT b FROM t", wantsRows: false)])
      #expect(unwanted.outcomes[0].rows == [] && unwanted.outcomes[0].result?.counts.read == 3)
      let many = try await stream.run(
        Array(repeating: .sql("SELECT 1"), count: StreamProgram.stepsMax + 1))
      #expect(many.failure?.code == "PROTOCOL")
    }
  }

  /// More results than an event loop makes, and statements that it must not wait for.
  @Test func largeAndSlowReadsRunOnThePool() async throws {
    try await StreamCluster.with { cluster in
      let stream = try await cluster.stream()
      let many =
        "WITH c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<5000) SELECT x FROM c"
      let run = try await stream.run([
        .sql(many), .sql("SELECT 1"), .sql("SELECT count(*) FROM (\(many), sqlite_schema)"),
      ])
      #expect(run.outcomes[0].rows?.count == 5000)
      #expect(run.outcomes[1].rows == [[.integer(1)]] && run.outcomes[2].isOK)
      var options = RequestOptions()
      options.timeoutMilliseconds = 50
      let endless = "WITH c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
      #expect(try await stream.code(endless, options) == "STATEMENT_TIMEOUT")
    }
  }
}
