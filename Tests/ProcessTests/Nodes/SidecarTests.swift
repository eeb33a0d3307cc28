// Other programs write to the primary's file with their own SQLite while it runs: nothing is lost,
// and replicas follow.

import EdgeTesting
import Serving
import Synchronization
import Testing

extension NodeTests {
  @Suite struct SidecarTests {
    private static let python = Program(named: "python3")
    private static let shell = Program(named: "sqlite3")

    /// Opens, writes, checkpoints, vacuums and closes, all the time.
    private static let script = """
      import sqlite3, sys, random
      path, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
      random.seed(first)
      number = first
      for round in range(rounds):
          db = sqlite3.connect(path, timeout=60, isolation_level=None)
          db.execute("PRAGMA busy_timeout=60000")
          for _ in range(random.randint(1, 8)):
              db.execute("BEGIN IMMEDIATE")
              for _ in range(random.randint(1, 5)):
                  db.execute("INSERT INTO log(id, body) VALUES (?, ?)", (number, "x" * random.randint(1, 900)))
                  number += 1
              db.execute("COMMIT")
          if round % 3 == 0:
              db.execute("PRAGMA wal_checkpoint(%s)" % random.choice(["PASSIVE", "TRUNCATE", "RESTART"])).fetchall()
          if round % 20 == 19:
              db.execute("VACUUM")
          db.close()
      print(number - first)
      """

    @Test(.enabled(if: SidecarTests.python != nil, "there is no python3 here"))
    func row33_pythonWritesBesideThePrimary() throws {
      let python = try #require(Self.python)
      let cluster = try Cluster(replicas: 2)
      try cluster.primary.connect().run(WriteLoad.schema)
      let load = WriteLoad(
        ports: [cluster.primary.listenPort, cluster.replica.listenPort], threads: 2, depth: 2)
      let script = try cluster.directory.write("sidecar.py", Self.script)
      let database = cluster.primary.database
      let counts = Mutex<[Int64]>([])
      let sidecars = [Int64(7_000_000_000_000), 8_000_000_000_000].map { first in
        BackgroundThread {
          let result = try python.run(
            [script, database, "\(first)", "200"], deadline: .seconds(180))
          guard result.succeeded, let count = Int64(result.output.split(separator: "\n").last ?? "")
          else {
            throw TestFailure("python: \(result.error)")
          }
          counts.withLock { $0.append(count) }
        }
      }
      for sidecar in sidecars { try sidecar.join() }
      let outcome = try load.stop()
      try cluster.requireEqual()
      let written = counts.withLock { $0.reduce(0, +) }
      let client = try cluster.replica.connect()
      #expect(try client.integer("SELECT count(*) FROM log WHERE id >= 7000000000000") == written)
      #expect(try outcome.problems(in: cluster.primary.database) == [])
      note("python wrote \(written) rows beside \(outcome.acknowledged.count) of the primary's own")
      #expect(outcome.acknowledged.count > 50)
    }

    @Test(.enabled(if: SidecarTests.shell != nil, "there is no sqlite3 here"))
    func row33_shellWritesBesideThePrimary() throws {
      let shell = try #require(Self.shell)
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run(WriteLoad.schema)
      let load = WriteLoad(ports: [cluster.primary.listenPort], threads: 1, depth: 2)
      for round in 0..<40 {
        var sql =
          "PRAGMA busy_timeout=60000; INSERT INTO log(id, body) VALUES (\(9_000_000_000_000 + round), 'shell');"
        switch round % 5 {
        case 1: sql += "PRAGMA wal_checkpoint(TRUNCATE);"
        case 2:
          sql += "CREATE TABLE IF NOT EXISTS side\(round)(a); INSERT INTO side\(round) VALUES (1);"
        case 3: sql += "VACUUM;"
        case 4: sql += "PRAGMA wal_checkpoint(RESTART);"
        default: break
        }
        let result = try shell.run([cluster.primary.database, sql])
        #expect(result.succeeded, "\(result.error)")
      }
      let outcome = try load.stop()
      try cluster.requireEqual()
      #expect(try client.integer("SELECT count(*) FROM log WHERE id >= 9000000000000") == 40)
      #expect(try outcome.problems(in: cluster.primary.database) == [])
    }

    /// What was written while no primary ran is shipped when one starts.
    @Test(.enabled(if: SidecarTests.shell != nil, "there is no sqlite3 here"))
    func row33_shellWritesWhileThePrimaryIsAway() throws {
      let shell = try #require(Self.shell)
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      for round in 0..<4 {
        try cluster.settle()
        if round % 2 == 0 { cluster.primary.kill() } else { try cluster.primary.terminate() }
        let result = try shell.run([
          cluster.primary.database,
          "INSERT INTO log(id, body) VALUES (\(round), 'away'); PRAGMA wal_checkpoint(TRUNCATE);",
        ])
        #expect(result.succeeded, "\(result.error)")
        try cluster.primary.start()
        try cluster.requireEqual()
        #expect(
          try cluster.replica.connect().integer("SELECT count(*) FROM log") == Int64(round + 1))
      }
    }

    /// The stock shell reads a replica's file at any time, and can never write it.
    @Test(.enabled(if: SidecarTests.shell != nil, "there is no sqlite3 here"))
    func row34_shellReadsAReplicaAndCannotWriteIt() throws {
      let shell = try #require(Self.shell)
      let cluster = try Cluster(replicaArguments: ["--checkpoint-frames", "50"])
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      let load = WriteLoad(ports: [cluster.primary.listenPort], threads: 2, depth: 4)
      var last: Int64 = -1
      for _ in 0..<60 {
        let result = try shell.run([
          cluster.replica.database, "PRAGMA quick_check; SELECT count(*) FROM log;",
        ])
        let lines = result.output.split(separator: "\n")
        #expect(result.succeeded && lines.first == "ok", "\(result.output)\(result.error)")
        let count = lines.last.flatMap { Int64($0) } ?? -1
        #expect(count >= last)
        last = count
      }
      for sql in [
        "INSERT INTO log(id) VALUES (-1)", "DROP TABLE log", "VACUUM", "PRAGMA user_version=9",
      ] {
        let result = try shell.run([cluster.replica.database, sql])
        #expect(!result.succeeded, "\(sql) was accepted")
      }
      _ = try load.stop()
      try cluster.requireEqual()
      #expect(last > 0)
    }

    /// With the replica dead nothing keeps a program from writing: the replica then heals itself
    /// before it serves.
    @Test(.enabled(if: SidecarTests.shell != nil, "there is no sqlite3 here"))
    func row34_replicaHealsWhatAnotherProgramWrote() throws {
      let shell = try #require(Self.shell)
      let cluster = try Cluster()
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.primary.connect().run("INSERT INTO log(id, body) VALUES (1, 'mine')")
      try cluster.settle()
      cluster.replica.kill()
      let bytes = try Files.read(cluster.replica.database)
      let read = try shell.run(["-readonly", cluster.replica.database, "SELECT count(*) FROM log"])
      #expect(read.output == "1\n", "\(read.error)")
      #expect(try Files.read(cluster.replica.database) == bytes)
      let write = try shell.run([
        cluster.replica.database, "INSERT INTO log(id, body) VALUES (2, 'theirs')",
      ])
      note("a write to the file of a dead replica: \(write.succeeded ? "accepted" : write.error)")
      try cluster.replica.start()
      try cluster.requireEqual()
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM log") == 1)
    }
  }
}
