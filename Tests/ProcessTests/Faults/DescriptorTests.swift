// A node that may open few files, and more clients than that: it serves those that it has, its
// replicas go on, and when the clients have gone there is room again.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct DescriptorTests {
    private static let prlimit = Program(named: "prlimit")
    private static let clients = 150

    @Test(.enabled(if: DescriptorTests.prlimit != nil, "there is no prlimit here"))
    func row53_descriptorsThatRunOut() throws {
      var random = SeededGenerator(seed: 53)
      let prlimit = try #require(Self.prlimit)
      let cluster = try Cluster(replicas: 1) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      let writer = try cluster.primary.connect()
      let reader = try cluster.replica.connect()
      // Both have their loops' readers open, and what else a node opens as it is needed.
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      try load.progress(5)
      try load.stop()
      for node in cluster.nodes {
        let limit = node.openFiles + 30
        let result = try prlimit.run(["--pid", "\(node.pid)", "--nofile=\(limit):"])
        guard result.succeeded else { throw TestFailure("prlimit: \(result.error)") }
      }
      let logged = cluster.nodes.map { $0.errorText.utf8.count }
      try storm(cluster, writer: writer, reader: reader)
      for (node, before) in zip(cluster.nodes, logged) {
        #expect(node.isRunning)
        let bytes = node.errorText.utf8.count - before
        note("\(node.role.rawValue) without descriptors logged \(bytes) bytes")
        #expect(bytes < 200_000)
      }
      let again = WorkloadSet(ports: cluster.ports, run: 1, random: &random)
      try again.progress(5)
      try again.stop()
      try cluster.requireEqual()
      for node in cluster.nodes {
        try load.require(in: node)
        try again.require(in: node)
      }
    }

    /// Connections that nobody uses, for a second or two; those that were there before work on.
    private func storm(_ cluster: Cluster, writer: LineConnection, reader: LineConnection) throws {
      var crowd: [LineConnection] = []
      for node in cluster.nodes {
        for _ in 0..<Self.clients { try? crowd.append(node.connect()) }
      }
      #expect(crowd.count > 100)
      let end = Deadline.seconds(2)
      var made: Int64 = 0
      while !end.isOver {
        made += 1
        let answer = try writer.run("INSERT INTO log(id, body) VALUES (-\(made), 'storm')")
        let seen = try reader.query(
          "SELECT count(*) FROM log WHERE id < 0", [],
          [("token", .string(answer.token ?? "")), ("wait_ms", 20_000), ("on_lag", "error")])
        #expect(seen.integer == made, "\(seen.json)")
        elapse(seconds: 0.02)
      }
      note("\(made) writes shipped beside \(crowd.count) connections that need descriptors")
      #expect(made > 3)
    }
  }
}
