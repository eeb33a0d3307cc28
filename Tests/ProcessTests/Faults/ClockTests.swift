// The clock on the wall jumps: nothing that is measured or waited for may care.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct ClockTests {
    /// libfaketime, which lies to a program about the time; Debian's package `faketime`.
    private static let library = [
      "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
      "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ].first { Files.exists($0) }

    @Test(
      .enabled(if: ClockTests.library != nil, "there is no libfaketime here"),
      .enabled(if: Deadline.patience == 1, "a sanitizer must be the first library of its program"))
    func row52_clocksThatJump() throws {
      var random = SeededGenerator(seed: 52)
      let library = try #require(Self.library)
      let cluster = try Cluster(replicas: 1) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      for node in cluster.nodes {
        try cluster.directory.write(name(node), "+0d\n")
        node.environment = [
          "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": cluster.directory.file(name(node)),
          "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
          // It would else change the environment, which hides the arguments from Swift.
          "FAKETIME_SHARED": "/none /none",
          "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        ]
        try node.terminate()
        try node.start()
      }
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      try load.progress(3)
      let connections = cluster.link.connections
      let node = try cluster.primary.connect()
      let jumps = ["+10d", "-10d", "+3h", "-1h", "+4000d", "+0d"]
      for jump in NodeTests.runsFaults ? jumps : Array(jumps.prefix(2)) {
        for node in cluster.nodes.shuffled(using: &random) {
          try cluster.directory.write(name(node), jump + "\n")
        }
        let began = Deadline.now()
        try load.progress(3)
        // SQLite tells what its process takes for the time; a wait takes as long as ever.
        let late = try cluster.replica.connect().query(
          "SELECT 1", [], [("token", .string(try future(node))), ("on_lag", "error")])
        #expect(late.error == "TOKEN_TIMEOUT")
        let seconds = Double(Deadline.now() - began) / 1e9
        #expect(seconds < 30)
        for node in cluster.nodes {
          let status = try node.report()
          #expect(status["uptime_ms"]?.integer ?? -1 >= 0)
          #expect(status["uptime_ms"]?.integer ?? .max < 300_000)
          if node.role == .replica {
            #expect(status["contact_ms"]?.integer ?? .max < 12_000)
          }
        }
      }
      let shown = try node.integer("SELECT CAST(strftime('%s', 'now') AS INTEGER)")
      try cluster.directory.write(name(cluster.primary), "+10d\n")
      try eventually("the primary's clock jumps") {
        try node.integer("SELECT CAST(strftime('%s', 'now') AS INTEGER)") > shown + 800_000
      }
      // Nobody took a jump for silence.
      #expect(cluster.link.connections == connections)
      try load.stop()
      try cluster.requireEqual()
      for node in cluster.nodes { try load.require(in: node) }
    }

    private func name(_ node: NodeProcess) -> String { "clock-\(node.role.rawValue)" }

    /// A token that no node can have reached.
    private func future(_ client: LineConnection) throws -> String {
      let token = try #require(try client.request(".token").token)
      let parts = token.split(separator: ".").dropLast()
      return parts.joined(separator: ".") + ".99999999"
    }
  }
}
