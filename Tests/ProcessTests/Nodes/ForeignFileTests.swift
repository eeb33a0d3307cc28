// Files that are not what a node expects at its path are refused, and stay as they are.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct ForeignFileTests {
    private func refused(
      _ arguments: [String], _ code: Int32, in directory: TestDirectory,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let result = try Program.edgeSQL().run(
        arguments + ["--listen", "127.0.0.1:0", "--ship", "off", "--log-level", "critical"],
        directory: directory.path, deadline: .seconds(20))
      let what = "\(arguments): \(result.status)\n\(result.error)"
      #expect(result.status == .exited(code), "\(what)", sourceLocation: sourceLocation)
      #expect(result.output.isEmpty, "\(what)", sourceLocation: sourceLocation)
      #expect(
        result.error.split(separator: "\n").count == 1, "\(what)", sourceLocation: sourceLocation)
    }

    /// The names and bytes of everything in a directory.
    private func everything(_ directory: TestDirectory) throws -> [String: [UInt8]] {
      var result: [String: [UInt8]] = [:]
      for name in Files.names(in: directory.path) {
        result[name] = try? Files.read(directory.file(name))
      }
      return result
    }

    @Test func row25_filesThatAreNoDatabase() throws {
      let directory = try TestDirectory()
      var random = SeededGenerator(seed: 3)
      try directory.write("text", String(repeating: "Dear diary,\n", count: 500))
      try directory.write("short", "x")
      try directory.write("random", random.bytes(8192))
      try directory.write("torn", Array("SQLite format 3\0".utf8))
      let before = try everything(directory)
      for name in before.keys.sorted() {
        try refused(["primary", "--db", name], 65, in: directory)
        try refused(["replica", "--db", name, "--upstream", "127.0.0.1:1"], 65, in: directory)
      }
      #expect(try everything(directory) == before)
    }

    @Test func row25_otherDatabaseInTheReplicasPlace() throws {
      let directory = try TestDirectory()
      for (name, mode) in [("delete.db", "DELETE"), ("wal.db", "WAL")] {
        let connection = try Connection(path: directory.file(name), mode: .create)
        try connection.execute(
          "PRAGMA journal_mode=\(mode); CREATE TABLE diary(t); INSERT INTO diary VALUES ('mine')")
      }
      let before = try everything(directory)
      for name in ["delete.db", "wal.db"] {
        try refused(["replica", "--db", name, "--upstream", "127.0.0.1:1"], 65, in: directory)
      }
      #expect(try everything(directory) == before)
    }

    @Test func row25_eachRoleRefusesTheOthersFile() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(a)")
      try cluster.settle()
      try cluster.replica.terminate()
      try cluster.primary.terminate()
      let before = try everything(cluster.directory)
      try refused(["primary", "--db", cluster.replica.database], 65, in: cluster.directory)
      try refused(
        ["replica", "--db", cluster.primary.database, "--upstream", "127.0.0.1:1"], 65,
        in: cluster.directory)
      #expect(try everything(cluster.directory) == before)
      try cluster.primary.start()
      try cluster.replica.start()
      try cluster.requireEqual()
    }

    /// A second node on the same file does no harm.
    @Test func fileThatAnotherNodeHas() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(a)")
      try cluster.settle()
      try refused(["primary", "--db", cluster.primary.database], 75, in: cluster.directory)
      try refused(
        [
          "replica", "--db", cluster.replica.database, "--upstream",
          "127.0.0.1:\(cluster.link.port)",
        ], 75,
        in: cluster.directory)
      try cluster.primary.connect().run("INSERT INTO t VALUES (1)")
      try cluster.requireEqual()
    }

    @Test func placesWhereNoFileCanBe() throws {
      let directory = try TestDirectory()
      for arguments in [["primary"], ["replica", "--upstream", "127.0.0.1:1"]] {
        for path in ["missing/x.db", directory.path] {
          let result = try Program.edgeSQL().run(
            arguments + ["--db", path, "--listen", "127.0.0.1:0", "--ship", "off"],
            directory: directory.path, deadline: .seconds(20))
          let what = "\(arguments) \(path): \(result.status)\n\(result.error)"
          #expect([.exited(65), .exited(73), .exited(74)].contains(result.status), "\(what)")
          #expect(result.error.contains(path), "\(what)")
        }
      }
      #expect(Files.names(in: directory.path) == [])
    }

    @Test(.enabled(if: geteuid() != 0, "the superuser may write anywhere"))
    func directoryThatMayNotBeWritten() throws {
      let directory = try TestDirectory()
      chmod(directory.path, 0o500)
      for arguments in [["primary"], ["replica", "--upstream", "127.0.0.1:1"]] {
        let result = try Program.edgeSQL().run(
          arguments + ["--db", directory.file("x.db"), "--listen", "127.0.0.1:0", "--ship", "off"],
          deadline: .seconds(20))
        #expect([.exited(73), .exited(74)].contains(result.status), "\(result.error)")
      }
    }

    // MARK: Two databases

    @Test func row21_replicaOfAnotherDatabase() throws {
      let cluster = try Cluster()
      try cluster.primary.connect().run("CREATE TABLE t(a)")
      try cluster.primary.connect().run("INSERT INTO t VALUES ('first')")
      try cluster.settle()
      try cluster.replica.terminate()
      let second = try NodeProcess(.primary, in: cluster.directory, database: "second.db")
      try second.connect().run("CREATE TABLE t(a)")
      try second.connect().run("INSERT INTO t VALUES ('second')")
      let before = try Files.read(cluster.replica.database)
      let arguments = cluster.replica.arguments
      cluster.replica.arguments = ["--upstream", "127.0.0.1:\(second.shipPort)"]
      try cluster.replica.start()
      try eventually("the refusal") {
        try cluster.replica.report()["upstream"]?["last_error"]?.text?.contains("database") == true
      }
      let client = try cluster.replica.connect()
      #expect(try client.query("SELECT a FROM t").value == "first")
      #expect(try client.query("INSERT INTO t VALUES ('x')").error == "PRIMARY_UNAVAILABLE")
      try cluster.replica.terminate()
      #expect(try Files.read(cluster.replica.database) == before)
      cluster.replica.arguments = arguments
      try cluster.replica.start()
      try cluster.requireEqual()

      try cluster.replica.terminate()
      cluster.replica.arguments = ["--upstream", "127.0.0.1:\(second.shipPort)", "--reset"]
      try cluster.replica.start()
      #expect(try cluster.replica.connect().query("SELECT a FROM t").value == "second")
      try samePages(second.database, cluster.replica.database)
    }
  }
}
