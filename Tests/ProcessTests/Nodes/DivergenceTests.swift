// Histories that part: a replica is promoted while others are ahead of it, a backup is put under a
// primary, a superseded primary comes back. Nobody mixes them, nobody copies everything, and
// nothing is thrown away. Rows 18 to 22 of the fault matrix.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct DivergenceTests {
    private func edgeSQL(_ arguments: String...) throws -> Program.Result {
      try Program.edgeSQL().run(arguments)
    }

    /// A primary that is gone for good, a replica that was behind, and one that was ahead.
    private func parted() throws -> (Cluster, lostToken: String, keptToken: String) {
      let cluster = try Cluster(replicas: 2, prepare: { try Ballast.make($0) })
      try cluster.primary.note("common")
      try cluster.settle()
      let kept = try #require(try cluster.primary.connect().request(".token").token)
      cluster.links[0].partition()
      for number in 0..<30 { try cluster.primary.note("lost \(number)") }
      let lost = try #require(try cluster.primary.connect().request(".token").token)
      let txid = try cluster.primary.txid()
      try eventually("the other replica is ahead") { try cluster.replicas[1].txid() == txid }
      cluster.primary.kill()
      return (cluster, lost, kept)
    }

    @Test func row22_promotedReplicaIsFollowedByOneThatWasAhead() throws {
      let (cluster, lost, kept) = try parted()
      let (behind, ahead) = (cluster.replicas[0], cluster.replicas[1])
      try behind.terminate()
      let promoted = try edgeSQL("promote", behind.database)
      #expect(promoted.succeeded, "\(promoted.error)")
      let primary = try NodeProcess(.primary, in: cluster.directory, database: behind.database)
      for number in 0..<5 { try primary.note("new \(number)") }

      let link = try FaultProxy(to: primary.shipPort)
      ahead.kill()
      ahead.arguments = ["--upstream", "127.0.0.1:\(link.port)"]
      try ahead.start()
      try eventually("the replica follows") { try ahead.txid() == primary.txid() }
      try eventually("the replica is in the new epoch") {
        try ahead.status("epoch") == primary.status("epoch")
      }
      try samePages(primary.database, ahead.database)
      note("rewind of 30 lost transactions: \(link.bytes(.down) + link.bytes(.up)) bytes")
      #expect(link.bytes(.down) + link.bytes(.up) < 100_000)

      // What was lost is refused by name, and kept aside as a database of its own.
      let client = try ahead.connect()
      let sql = "SELECT count(*) FROM notes WHERE t LIKE 'lost%'"
      #expect(try client.query(sql, [], [("token", .string(lost))]).error == "TOKEN_EPOCH")
      #expect(try client.query(sql, [], [("token", .string(kept))]).integer == 0)
      let names = try ahead.status("diverged")?.elements.compactMap(\.text) ?? []
      #expect(names.count == 1)
      let aside = try Connection(
        path: cluster.directory.file(try #require(names.first)), mode: .readWrite)
      #expect(try aside.queryInteger(sql) == 30)
      #expect(try aside.query("PRAGMA integrity_check").first?.first == .text("ok"))
      try aside.execute("DELETE FROM notes")
    }

    @Test func row20_supersededPrimaryStopsAndComesBackAsAReplica() throws {
      let (cluster, _, _) = try parted()
      let (behind, ahead) = (cluster.replicas[0], cluster.replicas[1])
      try behind.terminate()
      #expect(try edgeSQL("promote", behind.database).succeeded)
      let primary = try NodeProcess(.primary, in: cluster.directory, database: behind.database)
      try primary.note("new")
      // The old one is started by mistake, and takes writes until somebody tells it.
      let old = cluster.primary
      try old.start()
      try old.note("too late")
      ahead.kill()
      ahead.arguments = [
        "--upstream", "127.0.0.1:\(primary.shipPort),127.0.0.1:\(old.shipPort)",
      ]
      try ahead.start()
      try eventually("the replica follows") { try ahead.txid() == primary.txid() }
      // The replica never goes back to the lower epoch, and the old primary hears of the new one.
      primary.kill()
      try eventually("the old primary hears of the new epoch", deadline: .seconds(30)) {
        try old.connect().query("INSERT INTO notes(t) VALUES ('x')").error != nil
      }
      #expect(try ahead.connect().integer("SELECT count(*) FROM notes WHERE t = 'too late'") == 0)
      try old.terminate()
      let refused = try edgeSQL("primary", "--db", old.database, "--listen", "127.0.0.1:0")
      #expect(refused.status == .exited(78), "\(refused.error)")
      #expect(refused.error.contains("demote"))

      let demoted = try edgeSQL("demote", old.database)
      #expect(demoted.succeeded, "\(demoted.error)")
      try primary.start()
      let link = try FaultProxy(to: primary.shipPort)
      let back = try NodeProcess(
        .replica, in: cluster.directory, database: old.database,
        arguments: ["--upstream", "127.0.0.1:\(link.port)"], ships: false)
      try eventually("the old primary follows") { try back.txid() == primary.txid() }
      try eventually("epoch") { try back.status("epoch") == primary.status("epoch") }
      try samePages(primary.database, back.database)
      #expect(link.bytes(.down) + link.bytes(.up) < 100_000)
      #expect(try back.status("diverged")?.elements.count == 1)
    }

    @Test func rows18and19_olderBackupUnderAPrimaryBeginsANewEpoch() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0) })
      try cluster.primary.note("kept")
      try cluster.settle()
      try cluster.primary.terminate()
      let backup = try Files.read(cluster.primary.database)
      try cluster.primary.start()
      for number in 0..<20 { try cluster.primary.note("lost \(number)") }
      try cluster.settle()
      let lost = try #require(try cluster.primary.connect().request(".token").token)
      let epoch = try #require(try cluster.primary.status("epoch")?.integer)
      try cluster.primary.terminate()
      let copied = cluster.link.bytes(.down)
      // The way people do it: the file is put back, and whatever else lies there stays.
      let path = cluster.primary.database
      try cluster.directory.write("backup.db", backup)
      for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
      #expect(rename(cluster.directory.file("backup.db"), path) == 0)
      try cluster.primary.start()
      try cluster.primary.note("after")
      #expect(try #require(try cluster.primary.status("epoch")?.integer) > epoch)
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      let client = try cluster.replica.connect()
      let sql = "SELECT count(*) FROM notes"
      #expect(try client.query(sql, [], [("token", .string(lost))]).error == "TOKEN_EPOCH")
      #expect(try client.integer(sql) == 2)
      #expect(try cluster.replica.status("diverged")?.elements.count == 1)
      #expect(cluster.link.bytes(.down) - copied < 200_000)
    }

    /// The snapshot of a volume, put back as a whole: only a replica can tell that it is old.
    @Test func row18_allFilesOfAPrimaryAreOfAnEarlierMoment() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0) })
      try cluster.primary.note("kept")
      try cluster.settle()
      let kept = try #require(try cluster.primary.connect().request(".token").token)
      let epoch = try #require(try cluster.primary.status("epoch")?.integer)
      cluster.primary.suspend()
      let files = try ["", "-wal", "-pagemap", "-identity"].map {
        ($0, try Files.read(cluster.primary.database + $0))
      }
      cluster.primary.resume()
      for number in 0..<20 { try cluster.primary.note("lost \(number)") }
      try cluster.settle()
      let lost = try #require(try cluster.primary.connect().request(".token").token)
      let moved = cluster.link.bytes(.down) + cluster.link.bytes(.up)
      try cluster.primary.whileKilled {
        for (suffix, bytes) in files { try cluster.directory.write("primary.db" + suffix, bytes) }
        unlink(cluster.primary.database + "-shm")
      }
      try eventually("a new epoch begins") {
        try #require(try cluster.primary.status("epoch")?.integer) > epoch
      }
      try cluster.primary.note("after")
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      let client = try cluster.replica.connect()
      let sql = "SELECT count(*) FROM notes"
      #expect(try client.query(sql, [], [("token", .string(lost))]).error == "TOKEN_EPOCH")
      #expect(try client.query(sql, [], [("token", .string(kept))]).integer == 2)
      #expect(try cluster.replica.status("diverged")?.elements.count == 1)
      #expect(cluster.link.bytes(.down) + cluster.link.bytes(.up) - moved < 100_000)
    }

    @Test func row18_anotherFileUnderAPrimaryIsAnotherHistory() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 100) })
      try cluster.settle()
      try cluster.primary.terminate()
      let path = cluster.primary.database
      for suffix in ["", "-wal", "-shm"] { unlink(path + suffix) }
      let missing = try edgeSQL("primary", "--db", path, "--listen", "127.0.0.1:0")
      #expect(missing.status == .exited(65) && missing.error.contains("missing"))
      try Ballast.make(path, rows: 50)
      try cluster.primary.start()
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      let kept = try cluster.replica.status("diverged")?.elements.compactMap(\.text) ?? []
      let aside = try Connection(
        path: cluster.directory.file(try #require(kept.first)), mode: .readOnly)
      #expect(try aside.queryInteger("SELECT count(*) FROM ballast") == 100)
    }

    /// Going on from a sibling that has less would take back what was served.
    @Test func row22_replicaNeverFollowsASiblingThatIsBehind() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 100) })
      let sibling = try NodeProcess(
        .replica, in: cluster.directory, database: "sibling.db",
        arguments: ["--upstream", "127.0.0.1:\(cluster.link.port)"])
      let ahead = try NodeProcess(
        .replica, in: cluster.directory, database: "ahead.db",
        arguments: [
          "--upstream", "127.0.0.1:\(cluster.primary.shipPort),127.0.0.1:\(sibling.shipPort)",
        ], ships: false)
      try cluster.primary.note("everywhere")
      try cluster.settle()
      cluster.link.partition()
      for number in 0..<5 { try cluster.primary.note("\(number)") }
      let txid = try cluster.primary.txid()
      try eventually("one replica is ahead") { try ahead.txid() == txid }
      cluster.primary.kill()
      try eventually("the sibling says that it is behind") {
        ahead.errorText.contains("behind the follower")
      }
      #expect(try ahead.txid() == txid)
      #expect(try ahead.connect().integer("SELECT count(*) FROM notes") == 6)
      cluster.link.heal()
      try cluster.primary.start()
      try cluster.primary.note("again")
      try cluster.settle()
      try eventually("it follows") { try ahead.txid() == cluster.primary.txid() }
      try samePages(cluster.primary.database, ahead.database)
      #expect(try ahead.status("diverged")?.elements.isEmpty == true)
    }

    /// A database that got another page size is still the same one, but no page of it is.
    @Test func row25_anotherPageSizeUpstreamIsRefusedUnlessReset() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 20) })
      try cluster.settle()
      let database = try cluster.primary.status("database")
      try cluster.primary.terminate()
      do {
        let connection = try Connection(path: cluster.primary.database, mode: .readWrite)
        try connection.execute("PRAGMA journal_mode=DELETE; PRAGMA page_size=8192")
        try connection.allowingVacuum { () throws(SQLiteError) in
          try connection.execute("VACUUM")
        }
      }
      try cluster.primary.start()
      #expect(try cluster.primary.status("database") == database)
      #expect(try cluster.primary.status("page_size") == 8192)
      let replica = cluster.replica
      try eventually("the replica says why") {
        try replica.status("upstream", "last_error")?.text?.contains("8192") == true
      }
      #expect(try replica.connect().integer("SELECT count(*) FROM ballast") == 20)
      replica.kill()
      replica.arguments.append("--reset")
      try replica.start()
      try cluster.requireEqual()
    }

    @Test func row21_anotherDatabaseIsRefusedUnlessReset() throws {
      let first = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 50) })
      let second = try Cluster(replicas: 0, prepare: { try Ballast.make($0, rows: 20) })
      try first.settle()
      let replica = first.replica
      let position = try replica.status("position")
      replica.kill()
      replica.arguments = ["--upstream", "127.0.0.1:\(second.primary.shipPort)"]
      try replica.start()
      try eventually("the replica says why") {
        try replica.status("upstream", "last_error")?.text?.contains("database") == true
      }
      #expect(try replica.status("position") == position)
      #expect(try replica.connect().integer("SELECT count(*) FROM ballast") == 50)
      replica.kill()
      replica.arguments.append("--reset")
      try replica.start()
      try samePages(second.primary.database, replica.database)
    }
  }
}
