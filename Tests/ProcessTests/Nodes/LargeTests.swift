// What does not fit into memory or into one message: it is streamed, and seen as a whole or not at
// all.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct LargeTests {
    /// One commit of many megabytes: a reader on the replica sees none or all of it, and no node
    /// grows with it.
    @Test func row26_oneLargeTransaction() throws {
      let megabytes = NodeTests.isBig ? 300 : 40
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
      try cluster.settle()
      let rows = Int64(megabytes) * 250
      let stops = Flag()
      let port = cluster.replica.listenPort
      let reader = BackgroundThread {
        let connection = try LineConnection(port: port)
        while !stops.isSet {
          let count = try connection.integer("SELECT count(*) FROM t")
          guard count == 0 || count == rows else { throw TestFailure("a reader saw \(count) rows") }
        }
      }
      let memory = (cluster.primary.memoryBytes("VmRSS"), cluster.replica.memoryBytes("VmRSS"))
      let made = try client.query(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT \(rows)) "
          + "INSERT INTO t SELECT i, randomblob(4000) FROM s")
      #expect(made.error == nil, "\(made.message)")
      try cluster.settle(.seconds(300))
      stops.set()
      try reader.join()
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM t") == rows)
      let after = (cluster.primary.memoryBytes(), cluster.replica.memoryBytes())
      note(
        "one transaction of \(megabytes) MB: memory of the primary \(memory.0 >> 20) to \(after.0 >> 20) MiB, "
          + "of the replica \(memory.1 >> 20) to \(after.1 >> 20) MiB")
      #expect(after.0 - memory.0 < 160 << 20)
      #expect(after.1 - memory.1 < 160 << 20)
      try cluster.requireEqual()
    }

    /// A file that goes past the lock page at 1 GiB.
    @Test(.enabled(if: NodeTests.isBig)) func fileOverOneGibibyte() throws {
      let cluster = try Cluster { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 1200)"
            + "INSERT INTO t SELECT i, zeroblob(1048000) FROM s")
      }
      #expect(Files.size(cluster.primary.database) > 1_250_000_000)
      let client = try cluster.primary.connect()
      try client.run("UPDATE t SET v = randomblob(3000) WHERE id IN (1, 1023, 1024, 1025, 1200)")
      try client.run("INSERT INTO t(v) VALUES (randomblob(100000))")
      try cluster.requireEqual()
      note(
        "a file of \(Files.size(cluster.replica.database)) bytes was copied in \(cluster.link.bytes(.down)) bytes"
      )
    }
  }
}
