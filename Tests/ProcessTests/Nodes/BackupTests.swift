// `edge-sql backup`: an ordinary file with the state at one position, from a node that goes on
// working; or no file at all.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct BackupTests {
    @discardableResult
    private func backup(
      _ port: Int, _ path: String, _ flags: String..., expecting code: Int32 = 0,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Program.Result {
      let result = try Program.edgeSQL().run(["backup", "127.0.0.1:\(port)", path] + flags)
      #expect(
        result.status == .exited(code), "\(result.status)\n\(result.output)\(result.error)",
        sourceLocation: sourceLocation)
      return result
    }

    /// Starts a backup that goes on beside the test.
    private func begin(_ port: Int, _ path: String) throws -> ChildProcess {
      let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
      defer { close(nothing) }
      return try ChildProcess(
        try Program.edgeSQL().path, ["backup", "127.0.0.1:\(port)", path], input: nothing,
        output: nothing, error: nothing)
    }

    /// The token in the line that a backup ends with.
    private func token(_ result: Program.Result) throws -> String {
      let words = result.output.split(whereSeparator: { " ,\n".contains($0) })
      return String(try #require(words.first { $0.hasPrefix("e1.") }, "\(result.output)"))
    }

    private func requireSound(_ path: String) throws {
      let report = try PageComparison(path: path).integrityCheck()
      #expect(report == ["ok"])
      let header = try Files.read(path)
      #expect(header[18] == header[19], "the file cannot be written")
      #expect(header[72..<92].allSatisfy { $0 == 0 }, "the file has the stamp of a replica")
    }

    /// The files in a directory that begin with `name`.
    private func files(_ directory: TestDirectory, _ name: String) -> [String] {
      Files.names(in: directory.path).filter { $0.hasPrefix(name) }
    }

    @Test func copyUnderLoadIsOneState() throws {
      let cluster = try Cluster { path in
        try Connection(path: path, mode: .create).execute(BankLoad.schema)
      }
      let load = BankLoad(port: cluster.primary.listenPort)
      try eventually("some transfers") { load.count > 20 }
      var made: [(path: String, token: String, before: Int)] = []
      for (number, node) in [cluster.primary, cluster.replica, cluster.primary].enumerated() {
        let path = cluster.directory.file("backup\(number).db")
        let before = node.role == .primary ? load.count : 0
        made.append((path, try token(try backup(node.listenPort, path)), before))
        #expect(files(cluster.directory, "backup\(number)") == ["backup\(number).db"])
      }
      let tokens = try load.stop()
      for (path, token, before) in made {
        try requireSound(path)
        let transfers = try BankLoad.transfers(in: path)
        #expect(transfers >= before)
        #expect(tokens[transfers - 1] == token)
        note("backup under load: transfer \(transfers) of \(tokens.count)")
      }
      try cluster.requireEqual()
    }

    @Test(arguments: [512, 65536])
    func pageSizeOfBackup(_ bytes: Int) throws {
      let cluster = try Cluster { path in
        try Connection(path: path, mode: .create).execute(
          "PRAGMA page_size=\(bytes); CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 300)"
            + "INSERT INTO t SELECT i, randomblob(i * 20) FROM s")
      }
      try cluster.primary.connect().run("UPDATE t SET v = randomblob(50) WHERE id % 7 = 0")
      try cluster.settle()
      for node in [cluster.primary, cluster.replica] {
        let path = cluster.directory.file("backup-\(node.role.rawValue).db")
        try backup(node.listenPort, path)
        try requireSound(path)
        try samePages(cluster.primary.database, path)
      }
    }

    /// A new database, and one that shrinks: the length of the file is that of the position.
    @Test func smallAndShrunkDatabases() throws {
      let cluster = try Cluster(replicas: 0)
      let path = cluster.directory.file("backup.db")
      try backup(cluster.primary.listenPort, path)
      try samePages(cluster.primary.database, path)
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(v BLOB)")
      try client.run(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 2000) "
          + "INSERT INTO t SELECT randomblob(3000) FROM s")
      try client.run("DELETE FROM t WHERE rowid > 10")
      try client.run("VACUUM")
      try backup(cluster.primary.listenPort, path, "--force")
      try requireSound(path)
      try samePages(cluster.primary.database, path)
      #expect(Files.size(path) < 100_000)
    }

    @Test func fileIsADatabaseOfItsOwn() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
      try cluster.primary.connect().run("INSERT INTO t(v) VALUES ('a'), ('b')")
      try cluster.settle()
      let path = cluster.directory.file("backup.db")
      try backup(cluster.replica.listenPort, path)
      if let shell = Program(named: "sqlite3") {
        let wrote = try shell.run([path, "INSERT INTO t(v) VALUES ('c'); PRAGMA integrity_check"])
        #expect(wrote.succeeded && wrote.output == "ok\n", "\(wrote.output)\(wrote.error)")
      } else {
        try Connection(path: path, mode: .readWrite).execute("INSERT INTO t(v) VALUES ('c')")
      }
      let second = try NodeProcess(.primary, in: cluster.directory, database: "backup.db")
      #expect(try second.connect().integer("SELECT count(*) FROM t") == 3)
      try second.connect().run("INSERT INTO t(v) VALUES ('d')")
      #expect(try second.report()["database"] != cluster.primary.report()["database"])
      #expect(try cluster.primary.connect().integer("SELECT count(*) FROM t") == 2)
    }

    @Test func fileThatIsThereStays() throws {
      let cluster = try Cluster(replicas: 0)
      let port = cluster.primary.listenPort
      let path = try cluster.directory.write("notes", "Dear diary")
      let refused = try backup(port, path, expecting: 73)
      #expect(refused.error.contains("--force") && refused.output.isEmpty)
      #expect(Files.text(path) == "Dear diary")
      // A log beside it belongs to what was there before.
      try cluster.directory.write("notes-journal", "not for the new file")
      try backup(port, path, "--force")
      #expect(files(cluster.directory, "notes") == ["notes"])
      try samePages(cluster.primary.database, path)
      let running = try backup(port, cluster.primary.database, "--force", expecting: 75)
      #expect(running.error.contains("\(cluster.primary.pid)"), "\(running.error)")
      try backup(port, cluster.directory.path, "--force", expecting: 73)
    }

    @Test func placesWhereNothingCanBeMade() throws {
      let cluster = try Cluster(replicas: 0)
      let directory = try TestDirectory()
      let port = cluster.primary.listenPort
      let missing = try backup(port, directory.file("missing/x.db"), expecting: 73)
      #expect(missing.error.contains("missing/x.db"), "\(missing.error)")
      try backup(port, "", expecting: 64)
      try backup(port, directory.file("x.db"), "--forse", expecting: 64)
      let (listener, dead) = try LoopbackListener.open()
      close(listener)
      let away = try backup(dead, directory.file("x.db"), expecting: 69)
      #expect(away.error.contains("\(dead)"), "\(away.error)")
      #expect(Files.names(in: directory.path) == [])
    }

    /// What answers is no node, or not where clients are served.
    @Test func strangersAreNoNodes() throws {
      let cluster = try Cluster(replicas: 0)
      let directory = try TestDirectory()
      let result = try Program.edgeSQL().run(
        ["backup", "127.0.0.1:\(cluster.primary.shipPort)", directory.file("x.db")])
      #expect(!result.succeeded && result.error.hasPrefix("edge-sql: "), "\(result.error)")
      #expect(Files.names(in: directory.path) == [])
    }

    @Test func backupThatIsCutOffLeavesNoFile() throws {
      let cluster = try Cluster(replicas: 0) { path in
        try Connection(path: path, mode: .create).execute(BankLoad.schema)
      }
      let link = try FaultProxy(to: cluster.primary.listenPort)
      let path = cluster.directory.file("backup.db")
      link.cut(after: 2_000_000, .down)
      try backup(link.port, path, expecting: 69)
      #expect(files(cluster.directory, "backup") == [])

      // Killed in the middle: what is left is taken away by the next one.
      for signal in [SIGKILL, SIGINT, SIGTERM] {
        let passed = link.bytes(.down)
        link.delay(milliseconds: 20)
        let child = try begin(link.port, path)
        try eventually("half of a backup") { link.bytes(.down) > passed + 1_500_000 }
        link.pause()
        let second = try backup(cluster.primary.listenPort, path, expecting: 75)
        #expect(second.error.contains("another process"), "\(second.error)")
        child.signal(signal)
        #expect(try child.wait() == (signal == SIGKILL ? .signalled(SIGKILL) : .exited(1)))
        #expect(!Files.exists(path))
        if signal != SIGKILL { #expect(files(cluster.directory, "backup") == []) }
        link.cut()
        link.heal()
      }
      try backup(link.port, path)
      #expect(files(cluster.directory, "backup") == ["backup.db"])
      try samePages(cluster.primary.database, path)
    }

    /// The primary loses what it has shipped, in the middle of a backup from its replica: pages of
    /// two histories are never mixed.
    @Test func historyThatChangesBeginsTheCopyAnew() throws {
      let cluster = try Cluster { path in
        try Connection(path: path, mode: .create).execute(BankLoad.schema)
      }
      let database = cluster.primary.database
      try cluster.primary.terminate()
      let old = try Files.read(database)
      try cluster.primary.start()
      for source in 1...20 {
        try cluster.primary.connect().run(
          "UPDATE account SET balance = 0 WHERE id % 20 + 1 = \(source)")
      }
      try cluster.settle()
      let link = try FaultProxy(to: cluster.replica.listenPort)
      link.delay(milliseconds: 20)
      let path = cluster.directory.file("backup.db")
      let child = try begin(link.port, path)
      try eventually("half of a backup") { link.bytes(.down) > 4_000_000 }
      link.pause()
      cluster.primary.kill()
      for suffix in ["-wal", "-shm"] { Files.removeAll(database + suffix) }
      try cluster.directory.write("primary.db", old)
      try cluster.primary.start()
      let epoch = try #require(try cluster.primary.report()["epoch"]?.integer)
      #expect(epoch > 1)
      try eventually("the rewind") { try cluster.replica.report()["epoch"]?.integer == epoch }
      try cluster.settle()
      link.heal()
      #expect(try child.wait() == .exited(0))
      #expect(try BankLoad.transfers(in: path) == 0)
      try samePages(database, path)
    }

    @Test func diskThatIsFullLeavesNoFile() throws {
      let cluster = try Cluster(replicas: 0) { path in
        try Connection(path: path, mode: .create).execute(BankLoad.schema)
      }
      // A limit on the size of files stands for a full disk: the same call fails.
      let path = cluster.directory.file("backup.db")
      let result = try Program(path: "/bin/sh").run([
        "-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" backup \"$1\" \"$2\"",
        try Program.edgeSQL().path, "127.0.0.1:\(cluster.primary.listenPort)", path,
      ])
      #expect(result.status == .exited(74), "\(result.status) \(result.error)")
      #expect(files(cluster.directory, "backup") == [])
    }

    /// More than may be read from one snapshot must be copied in rounds.
    @Test func tooMuchForOneSnapshotIsRefused() throws {
      let cluster = try Cluster(replicas: 0) { path in
        try Connection(path: path, mode: .create).execute(
          "PRAGMA page_size=65536; CREATE TABLE t(v BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 70)"
            + "INSERT INTO t SELECT zeroblob(1000000) FROM s")
      }
      let client = try cluster.primary.connect()
      let refused = try client.request(".pages 0 final")
      #expect(refused.error == "RESPONSE_TOO_LARGE")
      let head = try cluster.primary.txid()
      try client.run("UPDATE t SET v = randomblob(1000000) WHERE rowid <= 3")
      try client.send(".pages \(head) final\n.ping\n")
      let answer = try client.receive()
      #expect(answer.error == nil && answer.lines > 8)
      #expect(try client.receive().json["pong"] == .bool(true))
      let path = cluster.directory.file("backup.db")
      try backup(cluster.primary.listenPort, path)
      try samePages(cluster.primary.database, path)
    }
  }
}
