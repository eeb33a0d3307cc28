// What databases cost a replica that nobody uses there: a name, and where each stands.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct IdleEdgeTests {
    private static let resting = ["--data", "--database-idle", "100ms", "--databases-open", "16"]

    private func replica(
      of primary: NodeProcess, _ folder: String, _ more: [String] = []
    ) throws -> NodeProcess {
      try NodeProcess(
        .replica, in: primary.directory, database: folder,
        arguments: Self.resting + ["--upstream", "127.0.0.1:\(primary.shipPort)"] + more,
        ships: false)
    }

    private func threads(_ node: NodeProcess) -> Int {
      Files.names(in: "/proc/\(node.pid)/task").count
    }

    private func databases(_ node: NodeProcess) throws -> Int {
      try node.connect().request(".databases").json["databases"]?.elements.count ?? 0
    }

    private func linked(_ node: NodeProcess) throws {
      try eventually("linked") { try node.report()["upstream_state"]?.text == "linked" }
    }

    private func rests(_ nodes: [NodeProcess]) throws {
      for node in nodes {
        try eventually("closed", deadline: .seconds(120)) { try node.report()["open"] == 0 }
      }
    }

    /// The first copies take most of the time: five thousand are for those who have it.
    @Test(.enabled(if: Deadline.patience == 1, "a sanitizer keeps what was freed"))
    func thousandsOfIdleDatabases() throws {
      let count = NodeTests.isBig ? 5000 : 1000
      let directory = try TestDirectory()
      let primary = try NodeProcess(
        .primary, in: directory, database: "primary", arguments: Self.resting)
      #expect(try primary.connect().request(".db create d0").error == nil)
      try primary.connect().run("CREATE TABLE t(v)", [], [("db", "d0")])
      try rests([primary])
      try primary.terminate()
      let bytes = try Files.read(directory.file("primary/d0.db"))
      for number in 1..<count { try directory.write("primary/d\(number).db", bytes) }
      try primary.start()

      let empty = try replica(of: primary, "empty", ["--databases", "none"])
      try linked(empty)
      #expect(try databases(empty) == 0)
      let (threads, files) = (self.threads(empty), empty.openFiles)
      let memory = empty.memoryBytes("RssAnon")
      try empty.terminate()

      let replica = try replica(of: primary, "replica")
      try eventually("all are copied", deadline: .seconds(600)) {
        try databases(replica) == count
      }
      try rests([primary, replica])
      // Without what the copies have left in the allocator.
      try replica.terminate()
      try replica.start()
      try linked(replica)
      #expect(try databases(replica) == count)
      try rests([replica])
      try costsNothing(replica, threads: threads, files: files)
      let each = (replica.memoryBytes("RssAnon") - memory) / count
      note("\(each) bytes of memory for each idle database of a replica")
      // The second MiB is what two starts of one program differ by.
      #expect(each * count < count * 2048 + 1 << 20, "\(each) bytes for each")

      // Those that were open are worth no more than those that never were: what was freed goes back.
      // The first ones are there for what a process has once.
      let nodes = [primary, replica]
      try use(primary, replica, Array(0..<100))
      try rests(nodes)
      let before = nodes.map { $0.memoryBytes("RssAnon") }
      try use(primary, replica, Array(100..<200))
      try rests(nodes)
      for (node, before) in zip(nodes, before) {
        try eventually("memory is given back: \(node.memoryBytes("RssAnon") - before)") {
          node.memoryBytes("RssAnon") - before < 100 * 2048 + 2 << 20
        }
        note("\((node.memoryBytes("RssAnon") - before) / 100) bytes more for each that was open")
      }
      try costsNothing(replica, threads: threads, files: files)
      #expect(try replica.terminate() == .exited(0))
    }

    private func costsNothing(_ node: NodeProcess, threads: Int, files: Int) throws {
      try eventually("\(self.threads(node)) threads, \(threads) before") {
        self.threads(node) <= threads + 4
      }
      // Connections of questions may not have been closed yet.
      try eventually("\(node.openFiles) files, \(files) before") { node.openFiles <= files + 4 }
    }

    /// Reads databases, and writes them above: they are opened for that.
    private func use(_ primary: NodeProcess, _ replica: NodeProcess, _ numbers: [Int]) throws {
      let (reader, writer) = (try replica.connect(), try primary.connect())
      func count(_ number: Int) throws -> Int64? {
        try reader.query("SELECT count(*) FROM t", [], [("db", .string("d\(number)"))]).integer
      }
      var nanoseconds: [UInt64] = []
      for number in numbers {
        let began = monotonicNanoseconds()
        #expect(try count(number) == 0)
        nanoseconds.append(monotonicNanoseconds() - began)
      }
      note("\(nanoseconds.sorted()[numbers.count / 2] / 1000) µs until one has answered")
      for number in numbers {
        try writer.run("INSERT INTO t VALUES (1)", [], [("db", .string("d\(number)"))])
      }
      for number in numbers {
        try eventually("d\(number) has the row") { try count(number) == 1 }
      }
    }
  }
}
