// The dump of a database is the database.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

@Suite(.services) struct DumpTests {
  /// Something that is not this program, and reads SQL with the system's SQLite.
  private static let hasPython =
    (try? Program(path: "/usr/bin/env").run(["python3", "-c", "import sqlite3"]))?.status
    == .exited(0)

  @Test(.enabled(if: hasPython, "there is no python3"), arguments: [NodeRole.primary, .replica])
  func aDumpGivesTheSameDatabase(_ role: NodeRole) async throws {
    let script = [
      "CREATE TABLE \\\"a b\\\"(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT, r REAL, b BLOB, g AS (id+1))",
      "INSERT INTO \\\"a b\\\"(t, r, b) VALUES ('it''s', 0.1, x'00ff'), (NULL, 9e999, zeroblob(3))",
      "INSERT INTO \\\"a b\\\"(t, r) VALUES (char(65,0,66), -1.5e-300), ('a\\nb', 3.0)",
      "CREATE INDEX i ON \\\"a b\\\"(t)", "CREATE VIEW v AS SELECT t FROM \\\"a b\\\"",
      "CREATE TABLE w(k TEXT PRIMARY KEY, n) WITHOUT ROWID",
      "INSERT INTO w VALUES ('x', 1), ('y', 2)",
      "CREATE TABLE log(m)",
      "CREATE TRIGGER g AFTER INSERT ON w BEGIN INSERT INTO log VALUES (new.k); END",
      "CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES ('hello world'), ('good bye')",
    ]
    try await HTTPNodes.with(role) { nodes in
      let made = try nodes.results(script.map { execute($0) })
      #expect(made.allSatisfy { $0.code == nil }, "\(made)")
      let dump = try nodes.client().request("GET", "/dump")
      #expect(dump.status == 200 && dump.text.hasSuffix("COMMIT;\n"))
      let text = try nodes.directory.write("dump.sql", dump.body)
      // Not by this program's connections, which protect the schema of virtual tables.
      let copied = try Program(path: "/usr/bin/env").run([
        "python3", "-c",
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(open(sys.argv[2]).read())",
        nodes.directory.file("copy.db"), text,
      ])
      #expect(copied.status == .exited(0), "\(copied.error)")
      let again = try Connection(path: nodes.directory.file("copy.db"), mode: .readOnly)
      let original = try Connection(path: nodes.directory.file("primary.db"), mode: .readOnly)
      for sql in [
        "SELECT * FROM \"a b\" ORDER BY id", "SELECT * FROM w ORDER BY k", "SELECT * FROM log",
        "SELECT rowid, x FROM f WHERE f MATCH 'hello OR bye' ORDER BY rowid",
        "SELECT name, sql FROM sqlite_schema WHERE name NOT GLOB '_edge_*' ORDER BY name",
        "SELECT * FROM sqlite_sequence ORDER BY name", "SELECT * FROM v ORDER BY 1",
      ] {
        let expected = try original.query(sql)
        #expect(try again.query(sql) == expected, "\(sql)")
        #expect(!expected.isEmpty || sql.contains("log"))
      }
      #expect(try again.query("PRAGMA integrity_check") == [[.text("ok")]])
    }
  }

  @Test func aLongDumpIsOneSnapshot() async throws {
    try await HTTPNodes.with { nodes in
      let fill =
        "INSERT INTO t SELECT n, hex(randomblob(100)) FROM (WITH RECURSIVE c(n) AS "
        + "(SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<20000) SELECT n FROM c)"
      let made = try nodes.results([execute("CREATE TABLE t(a, b)"), execute(fill)])
      #expect(made[1].result?["affected_row_count"] == 20_000)
      let reader = try HTTPClient(port: nodes.port, receiveBytes: 4096)
      try reader.send(HTTPClient.text("GET", "/dump"))
      let first = try reader.read(1)
      #expect(try nodes.results([execute("DELETE FROM t")])[0].code == nil)
      try reader.send(HTTPClient.text("GET", "/v2", headers: ["Connection: close"]))
      let text = String(decoding: first + (try reader.readRest()), as: UTF8.self)
      #expect(text.components(of: "INSERT INTO \"t\"") == 20_000)
      #expect(text.contains("COMMIT;\n"))
    }
  }
}

extension String {
  /// How often a text is in this one.
  fileprivate func components(of part: String) -> Int { ranges(of: part).count }
}
