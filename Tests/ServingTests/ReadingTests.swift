// Statements, kinds, the loop's reader and the pool, on a real database.

import NIOCore
import NIOPosix
import Serving
import Store
import Synchronization
import TestTraits
import Testing
import WALShip

@Suite(.services) struct ReadingTests {
  private func withDatabase(_ body: (DirectWriter, ReadSource) throws -> Void) throws {
    let directory = try TemporaryDirectory()
    let writer = try DirectWriter(path: directory.database)
    defer { writer.stop() }
    try writer.commitForeign(
      """
      CREATE TABLE t(id INTEGER PRIMARY KEY, a);
      WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<5000)
      INSERT INTO t SELECT n, 'row ' || n FROM c;
      """)
    try writer.captureNow()
    try body(
      writer,
      ReadSource(
        databasePath: directory.database, tracker: writer.tracker, logWatch: writer.logWatch,
        limits: ServingLimits()))
  }

  @Test func kindsAreToldByTheCompiler() throws {
    try withDatabase { _, source in
      let connection = try ReadConnection(source: source, busyMilliseconds: 0)
      func kind(_ sql: String) throws -> StatementKind {
        try connection.cache.statement(SQLText(sql)).kind
      }
      #expect(try kind("SELECT 1") == .read)
      #expect(try kind("/* x */ WITH c AS (SELECT 1) INSERT INTO t(a) SELECT * FROM c") == .write)
      #expect(try kind("WITH c AS (SELECT 1) SELECT * FROM c") == .read)
      #expect(try kind("EXPLAIN INSERT INTO t(a) VALUES (1)") == .read)
      #expect(try kind("EXPLAIN BEGIN") == .read)
      #expect(try kind("BEGIN") == .begin(isImmediate: false))
      #expect(try kind("begin deferred transaction") == .begin(isImmediate: false))
      #expect(try kind("BEGIN /**/ immediate") == .begin(isImmediate: true))
      #expect(try kind("BEGIN EXCLUSIVE TRANSACTION") == .begin(isImmediate: true))
      #expect(try kind("END") == .commit)
      #expect(try kind("ROLLBACK") == .rollback)
      #expect(try kind("SAVEPOINT Abc") == .savepoint("Abc"))
      #expect(try kind("RELEASE abc") == .release("abc"))
      #expect(try kind("ROLLBACK TO abc") == .rollbackTo("abc"))
      #expect(try kind("PRAGMA foreign_keys = off") == .setForeignKeys(false))
      #expect(try kind("PRAGMA foreign_keys(1)") == .setForeignKeys(true))
      #expect(try kind("PRAGMA foreign_keys") == .foreignKeys)
      #expect(try kind("PRAGMA journal_mode") == .read)
      #expect(try kind("PRAGMA user_version = 5") == .write)
      #expect(try kind("PRAGMA user_version") == .read)
      #expect(try kind("PRAGMA table_info(t)") == .read)
      #expect(try kind("PRAGMA defer_foreign_keys = on") == .write)
      #expect(try kind("VACUUM") == .write)
      #expect(try kind("ANALYZE") == .write)
      #expect(try kind("CREATE TABLE u(a)") == .write)
      for refused in ["ATTACH 'x' AS y", "PRAGMA journal_mode = DELETE", "CREATE TEMP TABLE x(a)"] {
        #expect(throws: RequestError.self) { try kind(refused) }
      }
      #expect(
        StatementKind.ofUncompiled(SQLText(" -- x\n insert INTO missing VALUES (1)")) == .write)
      #expect(StatementKind.ofUncompiled(SQLText("SELECT * FROM missing")) == nil)
      #expect(StatementKind.ofUncompiled(SQLText("SELEC 1")) == nil)
    }
  }

  @Test func theCacheKeepsWhatWasUsedLast() throws {
    try withDatabase { _, source in
      let reader = try ReadConnection(source: source, busyMilliseconds: 0)
      let cache = StatementCache(connection: reader.connection, capacity: 3)
      let first = try cache.statement(SQLText("SELECT 1"))
      for number in 2...3 { _ = try cache.statement(SQLText("SELECT \(number)")) }
      #expect(try cache.statement(SQLText("SELECT 1")) === first)
      _ = try cache.statement(SQLText("SELECT 4"))
      #expect(cache.count == 3)
      #expect(try cache.statement(SQLText("SELECT 1")) === first)
      for wrong in ["", " -- nothing", "SELECT 1; SELECT 2"] {
        #expect(throws: RequestError.self) { try cache.statement(SQLText(wrong)) }
      }
      _ = try cache.statement(SQLText("SELECT 5; -- and nothing more"))
    }
  }

  @Test func columnsFollowTheSchema() throws {
    try withDatabase { writer, source in
      let reader = try LoopReader(source: source)
      func read() throws -> String {
        var output = ResponseWriter()
        output.beginLine()
        _ = try reader.read(
          try reader.statement(SQLText("SELECT * FROM t WHERE id = 1")), .none, into: &output)
        output.endLine()
        return String(buffer: output.take())
      }
      #expect(try read() == #"{"cols":["id","a"],"rows":[[1,"row 1"]]}"# + "\n")
      try writer.commitForeign("ALTER TABLE t ADD COLUMN b DEFAULT 7")
      try writer.captureNow()
      #expect(try read() == #"{"cols":["id","a","b"],"rows":[[1,"row 1",7]]}"# + "\n")
    }
  }

  @Test func theLoopGivesUpWhatIsTooMuch() throws {
    try withDatabase { _, source in
      let reader = try LoopReader(source: source)
      func outcome(_ sql: String) throws -> LoopReader.Outcome {
        var output = ResponseWriter()
        output.beginLine()
        return try reader.read(try reader.statement(SQLText(sql)), .none, into: &output)
      }
      let token = source.tracker.position.token
      #expect(try outcome("SELECT a FROM t WHERE id = 5") == .finished(.token(token)))
      #expect(try outcome("SELECT a FROM t LIMIT 256") == .finished(.token(token)))
      #expect(try outcome("SELECT a FROM t LIMIT 257") == .handOver)
      #expect(try outcome("SELECT sum(x.id) FROM t x, t y") == .handOver)
      #expect(try reader.statement(SQLText("SELECT sum(x.id) FROM t x, t y")).isSlow)
      #expect(try outcome("SELECT count(*) FROM t") == .handOver)
      #expect(try outcome("SELECT hex(zeroblob(40000)) FROM t LIMIT 3") == .handOver)
    }
  }

  @Test func aSlowStatementThatHasBecomeQuickReturnsToTheLoop() throws {
    try withDatabase { _, source in
      let reader = try LoopReader(source: source)
      let cached = try reader.statement(SQLText("SELECT count(*) FROM t"))
      #expect(cached.isSlow)
      for _ in 0..<2 { cached.noteRun(microseconds: 100, wasLarge: false) }
      cached.noteRun(microseconds: 10_000, wasLarge: false)
      for _ in 0..<3 { cached.noteRun(microseconds: 100, wasLarge: false) }
      #expect(!cached.isSlow)
    }
  }

  @Test func aBatchSeesOneSnapshotAndItsTokenCoversIt() throws {
    try withDatabase { writer, source in
      let reader = try LoopReader(source: source)
      func count() throws -> (JSONValue?, LoopReader.Outcome) {
        var output = ResponseWriter()
        output.beginLine()
        let outcome = try reader.read(
          try reader.statement(SQLText("SELECT max(id) FROM t")), .none, into: &output)
        output.endLine()
        return (try JSONValue.parse(output.take()).scalar, outcome)
      }
      try reader.beginBatch()
      let first = try count()
      try writer.commitForeign("INSERT INTO t(a) VALUES ('new')")
      let second = try count()
      #expect(first.0 == .integer(5000))
      #expect(second.0 == .integer(5000))
      #expect(first.1 == second.1)
      reader.endBatch()
      let third = try count()
      #expect(third.0 == .integer(5001))
      guard case .finished(.ahead) = third.1 else {
        Issue.record("a commit without a number must be waited for: \(third.1)")
        return
      }
      try writer.captureNow()
      #expect(try count().1 == .finished(.token(source.tracker.position.token)))
    }
  }

  @Test func hashesOfColumnsAndOfValuesAreTheSame() throws {
    try withDatabase { _, source in
      let reader = try ReadConnection(source: source, busyMilliseconds: 0)
      let sql =
        "SELECT NULL, 1, -9e18, 1.5, 9e999, '', 'ä', CAST(x'ff41' AS TEXT), x'', x'00', id, a "
        + "FROM t"
      let found = try reader.cache.statement(SQLText(sql))
      let statement = try #require(found.statement)
      var columns = ResultHasher()
      var rows: [[Value]] = []
      while try statement.step() {
        columns.add(rowOf: statement, columns: statement.columnCount)
        rows.append(statement.row)
      }
      statement.reset()
      var values = ResultHasher()
      values.add(rows: rows)
      #expect(columns.value == values.value)
      #expect(columns.byteCount == values.byteCount)
      rows.swapAt(0, 1)
      var other = ResultHasher()
      other.add(rows: rows)
      #expect(other.value != values.value)
      var (one, two) = (ResultHasher(), ResultHasher())
      one.add(rows: [[.null], [.null]])
      two.add(rows: [[.null, .null]])
      #expect(one.value != two.value)
    }
  }

  @Test func thePoolIsFairAndBounded() async throws {
    let directory = try TemporaryDirectory()
    let writer = try DirectWriter(path: directory.database)
    defer { writer.stop() }
    var limits = ServingLimits()
    limits.readersMax = 1
    limits.readerWaitersMax = 2
    let pool = ReadPool(
      source: ReadSource(
        databasePath: directory.database, tracker: writer.tracker, logWatch: writer.logWatch,
        limits: limits))
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let order = Mutex<[Int]>([])
    let readers = Mutex<[PooledReader]>([])
    try await loop.submit {
      for number in 0..<4 {
        pool.checkOut(on: loop) { result in
          switch result {
          case .success(let reader):
            readers.withLock { $0.append(reader) }
            order.withLock { $0.append(number) }
          case .failure(let error):
            order.withLock { $0.append(error.code == "OVERLOADED" ? -number : 100) }
          }
        }
      }
    }.get()
    #expect(order.withLock { $0 } == [0, -3])
    for _ in 0..<2 {
      let reader = try #require(readers.withLock { $0.popLast() })
      try await loop.submit { pool.checkIn(reader, on: loop) }.get()
      try await loop.submit {}.get()
    }
    #expect(order.withLock { $0 } == [0, -3, 1, 2])
    #expect(pool.counts.readers == 1)
    pool.close()
  }

  /// A client can be gone before the reader's thread has begun with its statement.
  @Test func aReadThatIsCancelledBeforeItBeginsEnds() async throws {
    let directory = try TemporaryDirectory()
    let writer = try DirectWriter(path: directory.database)
    defer { writer.stop() }
    let pool = ReadPool(
      source: ReadSource(
        databasePath: directory.database, tracker: writer.tracker, logWatch: writer.logWatch,
        limits: ServingLimits()))
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let checkedOut = loop.makePromise(of: PooledReader.self)
    try await loop.submit {
      pool.checkOut(on: loop) { checkedOut.completeWith($0.mapError { $0 as any Error }) }
    }.get()
    let reader = try await checkedOut.futureResult.get()
    let minute = 60_000
    let end = NIODeadline.now() + .seconds(50)
    let begin = loop.makePromise(of: Void.self)
    reader.perform(
      on: loop, milliseconds: minute,
      { _ throws(RequestError) in try? begin.futureResult.wait() }, completion: { _ in })
    func run(_ sql: String) -> EventLoopFuture<Bool> {
      let ended = loop.makePromise(of: Bool.self)
      reader.perform(
        on: loop, milliseconds: minute,
        { connection throws(RequestError) in
          let cached = try connection.cache.statement(SQLText(sql))
          do {
            return try cached.statement?.step() ?? false
          } catch { throw RequestError(reporting: error) }
        }, completion: { ended.completeWith($0.mapError { $0 as any Error }) })
      return ended.futureResult
    }
    let endless = run(
      "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT max(i) FROM s")
    reader.interrupt()
    let next = run("SELECT 1")
    begin.succeed()
    await #expect(throws: RequestError.self) { try await endless.get() }
    #expect(NIODeadline.now() < end, "it ended with its time alone")
    // Who has the reader afterwards is not concerned.
    #expect(try await next.get())
    pool.close()
  }
}

@Suite struct StatementScannerTests {
  private func split(_ text: String) -> [String] {
    StatementScanner.statements(of: SQLText(text)).map { String(buffer: $0.bytes) }
  }

  @Test func semicolonsEndStatements() {
    #expect(split("SELECT 1; SELECT 2 ;;") == ["SELECT 1;", "SELECT 2 ;"])
    #expect(split("SELECT 1") == ["SELECT 1"])
    #expect(split(" ; -- x\n ; /* y; */") == [])
    #expect(
      split("SELECT ';', \";\", `;`, [;] -- ;\n; x") == [
        "SELECT ';', \";\", `;`, [;] -- ;\n;", "x",
      ])
    #expect(split("SELECT 'it''s; fine'; 'open;") == ["SELECT 'it''s; fine';", "'open;"])
  }

  @Test func triggersAreOneStatement() {
    let trigger =
      "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = 1; DELETE FROM t; END;"
    #expect(split(trigger + "SELECT 1") == [trigger, "SELECT 1"])
    #expect(split("EXPLAIN " + trigger) == ["EXPLAIN " + trigger])
    #expect(split("CREATE TABLE trigger_x(a); SELECT 1").count == 2)
  }

  @Test func wordsAreFound() {
    #expect(
      StatementScanner.firstWords(of: SQLText(" /* a */ BEGIN -- b\n Immediate x"), 2) == [
        "begin", "immediate",
      ])
    #expect(StatementScanner.firstWords(of: SQLText("  ")) == [])
  }
}
