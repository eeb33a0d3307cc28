// `restore`, `promote` and `demote` where they must refuse: nothing is touched, nothing is left
// behind.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct RestoreTests {
    private func edgeSQL(_ arguments: String...) throws -> Program.Result {
      try Program.edgeSQL().run(arguments)
    }

    @Test func filesInUseAndWrongOnesAreRefused() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 20) })
      try cluster.settle()
      let copy = cluster.directory.file("copy.db")
      let address = "127.0.0.1:\(cluster.primary.listenPort)"
      #expect(try edgeSQL("backup", address, copy).succeeded)
      let names = Files.names(in: cluster.directory.path)
      let (primary, replica) = (cluster.primary.database, cluster.replica.database)
      for (arguments, code) in [
        (["restore", copy, primary], Int32(75)), (["promote", replica], 75),
        (["demote", primary], 75), (["restore", copy, replica], 65),
        (["restore", copy, copy], 65), (["restore", copy + "x", primary], 69),
        (["promote", copy], 65), (["demote", copy], 65), (["demote", replica], 65),
      ] {
        let result = try Program.edgeSQL().run(arguments)
        #expect(result.status == .exited(code), "\(arguments): \(result.status) \(result.error)")
        #expect(result.output.isEmpty)
      }
      #expect(Files.names(in: cluster.directory.path) == names)
      try cluster.primary.note("goes on")
      try cluster.requireEqual()
    }

    @Test func damagedCopyIsNotRestored() throws {
      let directory = try TestDirectory()
      try Ballast.make(directory.file("p.db"), rows: 50)
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      try primary.note("kept")
      try primary.terminate()
      try directory.write("bad.db", try Files.read(primary.database))
      // The first bytes of a page are its type.
      for bit in 0..<8 {
        try Files.flipBit(directory.file("bad.db"), at: 4096 * 20, bit: UInt8(bit))
      }
      let result = try edgeSQL("restore", directory.file("bad.db"), primary.database)
      #expect(result.status == .exited(65), "\(result.error)")
      #expect(!Files.names(in: directory.path).contains { $0.contains("restoring") })
      try primary.start()
      #expect(try primary.connect().integer("SELECT count(*) FROM notes") == 1)
    }

    /// Only so many former databases are kept, and none takes the name of another.
    @Test func formerDatabasesAreKeptInBoundedNumber() throws {
      let directory = try TestDirectory()
      try Ballast.make(directory.file("p.db"), rows: 5)
      try Ballast.make(directory.file("copy.db"), rows: 5)
      for _ in 0..<5 {
        let result = try edgeSQL("restore", directory.file("copy.db"), directory.file("p.db"))
        #expect(result.succeeded, "\(result.error)")
      }
      let kept = Files.names(in: directory.path).filter {
        $0.contains(".diverged-") && !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm")
      }
      #expect(kept.count == 3, "\(kept)")
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      try primary.note("works")
      #expect(try primary.status("epoch")?.integer ?? 0 > 4)
    }
  }
}
