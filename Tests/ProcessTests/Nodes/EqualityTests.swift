// A replica's file has the same pages as the primary's, whatever was written.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct EqualityTests {
    @Test func row28_schemaChanges() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      let statements = [
        "CREATE TABLE a(id INTEGER PRIMARY KEY, n INTEGER, t TEXT)",
        "INSERT INTO a(n, t) SELECT value, 'row ' || value FROM generate_series(1, 2000)",
        "CREATE INDEX a_n ON a(n)",
        "CREATE TABLE audit(at INTEGER, what TEXT)",
        "CREATE TRIGGER a_up AFTER UPDATE ON a BEGIN INSERT INTO audit VALUES (new.id, new.t); END",
        "UPDATE a SET t = t || '!' WHERE id % 7 = 0",
        "ALTER TABLE a ADD COLUMN extra TEXT DEFAULT 'x'",
        "ALTER TABLE a RENAME COLUMN t TO label",
        "ALTER TABLE a RENAME TO b",
        "ALTER TABLE b DROP COLUMN extra",
        "CREATE VIEW v AS SELECT id, label FROM b WHERE n > 10",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "INSERT INTO words SELECT label FROM b",
        "INSERT INTO words(words) VALUES ('optimize')",
        "CREATE TABLE w(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID",
        "INSERT INTO w SELECT 'k' || id, randomblob(300) FROM b",
        "DELETE FROM b WHERE id > 500",
        "DROP INDEX a_n",
        "DROP TABLE audit",
      ]
      for sql in statements {
        // Not every build of SQLite has generate_series.
        try client.run(
          sql.replacing(
            "FROM generate_series(1, 2000)",
            with: "FROM (WITH RECURSIVE s(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM s "
              + "LIMIT 2000) SELECT value FROM s)"))
        if sql.hasPrefix("ALTER") || sql.hasPrefix("DROP") { try cluster.requireEqual() }
      }
      try cluster.requireEqual()
      let reader = try cluster.replica.connect()
      #expect(try reader.integer("SELECT count(*) FROM words WHERE words MATCH 'row'") == 2000)
      #expect(try reader.integer("SELECT count(*) FROM v") == 490)
    }

    @Test(arguments: ["NONE", "FULL", "INCREMENTAL"])
    func row29_vacuum(_ autoVacuum: String) throws {
      let cluster = try Cluster { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "PRAGMA auto_vacuum=\(autoVacuum); CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)")
      }
      let client = try cluster.primary.connect()
      try client.run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 3000) "
          + "INSERT INTO t SELECT i, randomblob(2000) FROM s")
      try cluster.requireEqual()
      let before = Files.size(cluster.primary.database)
      try client.run("DELETE FROM t WHERE id % 10 != 0")
      try cluster.requireEqual()
      try client.run("VACUUM")
      try client.run("INSERT INTO t(b) VALUES (randomblob(5000))")
      try cluster.requireEqual()
      #expect(try client.integer("SELECT count(*) FROM t") == 301)
      let pages = try client.integer("SELECT page_count FROM pragma_page_count()")
      note("VACUUM (auto_vacuum \(autoVacuum)): \(before) bytes before, \(pages) pages after")
      #expect(pages < 400)
    }

    @Test(arguments: [512, 1024, 4096, 16384, 65536])
    func pageSize(_ bytes: Int) throws {
      let cluster = try Cluster { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "PRAGMA page_size=\(bytes); CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);"
            + "INSERT INTO t(v) VALUES (randomblob(70000))")
      }
      let client = try cluster.primary.connect()
      for round in 0..<40 {
        try client.run(
          "INSERT INTO t(v) VALUES (randomblob(?))", [.integer(Int64(round * 997 % 5000))])
        try client.run(
          "UPDATE t SET v = randomblob(120) WHERE id % 5 = ?", [.integer(Int64(round % 5))])
      }
      try client.run("DELETE FROM t WHERE id % 3 = 0")
      try cluster.requireEqual()
      #expect(try client.integer("SELECT page_size FROM pragma_page_size()") == Int64(bytes))
      try client.run("VACUUM")
      try cluster.requireEqual()
    }

    @Test func row27_smallTransactions() throws {
      let cluster = try Cluster(replicas: 2)
      try cluster.primary.connect().run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, n INTEGER)")
      let perThread = NodeTests.isBig ? 25_000 : 5_000
      let port = cluster.primary.listenPort
      let threads = (0..<4).map { who in
        BackgroundThread {
          let client = try LineConnection(port: port)
          for start in stride(from: 0, to: perThread, by: 100) {
            let lines = (start..<start + 100).map {
              "[\"INSERT INTO t(who, n) VALUES (?, ?)\",\(who),\($0)]\n"
            }
            try client.send(lines.joined())
            for _ in lines where try client.receive().error != nil {
              throw TestFailure("a write failed")
            }
          }
        }
      }
      for thread in threads { try thread.join() }
      try cluster.requireEqual()
      for node in cluster.replicas {
        #expect(try node.connect().integer("SELECT count(*) FROM t") == Int64(4 * perThread))
      }
      note(
        "\(4 * perThread) small writes: \(try cluster.primary.txid()) transactions, "
          + "\(cluster.link.bytes(.down)) bytes shipped"
      )
    }

    /// A replica that starts while there is load copies the database beside the commits.
    @Test func replicaThatJoinsUnderLoad() throws {
      let cluster = try Cluster(replicas: 0)
      try cluster.primary.connect().run(WriteLoad.schema)
      let load = WriteLoad(ports: [cluster.primary.listenPort], threads: 2, depth: 8)
      for _ in 0..<3 { try cluster.addReplica() }
      let outcome = try load.stop()
      try cluster.requireEqual()
      #expect(try outcome.problems(in: cluster.replica.database) == [])
      #expect(outcome.unknown.isEmpty && outcome.refused.isEmpty)
    }
  }
}
