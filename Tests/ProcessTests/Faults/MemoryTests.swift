// A node that may have little memory: what it cannot do it refuses, or it ends as at a kill -9; nothing that
// it has acknowledged is lost, and nothing is damaged.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct MemoryTests {
    private static let prlimit = Program(named: "prlimit")

    /// A request that needs more memory than most.
    private static let large = [
      "SELECT group_concat(hex(randomblob(1000000))) FROM (VALUES (1), (2), (3))",
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<2000) "
        + "SELECT hex(randomblob(2000)) FROM c ORDER BY 1",
      "SELECT hex(zeroblob(4000000)), hex(zeroblob(4000000))",
    ]

    /// What takes too much memory fails alone: the node goes on, and so does everybody else.
    @Test func row54_memoryOfSQLiteIsLimited() throws {
      let flags = ["--sqlite-heap-limit", "16MiB"]
      let cluster = try Cluster(primaryArguments: flags, replicaArguments: flags) { path in
        try Connection(path: path, mode: .create).execute(WriteLoad.schema)
      }
      try cluster.settle()
      let load = WriteLoad(ports: cluster.ports, threads: 2, firstID: 1)
      let asks = cluster.ports.map { port in
        BackgroundThread {
          let client = try LineConnection(port: port)
          var refused = 0
          for round in 0..<20 {
            let writes = round % 2 == 1
            let text = "hex(zeroblob(\(7_000_000 + round)))"
            let answer = try client.request(
              writes
                ? "CREATE TABLE large\(port) AS SELECT \(text) AS x"
                : "SELECT length(\(text))")
            if answer.error == "SQLITE_NOMEM" { refused += 1 }
          }
          #expect(refused == 20)
        }
      }
      for ask in asks { try ask.join() }
      try eventually("some writes") { load.acknowledgedCount > 100 }
      let outcome = try load.stop()
      try cluster.requireEqual()
      #expect(try outcome.problems(in: cluster.primary.database) == [])
      for node in cluster.nodes { #expect(node.isRunning) }
    }

    @Test(
      .enabled(if: MemoryTests.prlimit != nil, "there is no prlimit here"),
      .enabled(if: Deadline.patience == 1, "a sanitizer needs all addresses there are"))
    func row54_littleMemory() throws {
      let prlimit = try #require(Self.prlimit)
      let cluster = try Cluster(
        primaryArguments: ["--http", "127.0.0.1:0"], replicaArguments: ["--http", "127.0.0.1:0"]
      ) { path in
        try Connection(path: path, mode: .create).execute(WriteLoad.schema)
      }
      try cluster.settle()
      for node in cluster.nodes {
        // It may end often, and nobody reads where.
        node.environment = ["SWIFT_BACKTRACE": "enable=no"]
        try node.terminate()
        try node.start()
      }
      var ended = 0
      for room in [64, 8] {
        let load = WriteLoad(
          ports: cluster.ports, threads: 2, firstID: Int64(room) * 1_000_000_000_000)
        try eventually("some writes") { load.acknowledgedCount > 20 }
        for node in cluster.nodes {
          let size = node.memoryBytes("VmSize") + room << 20
          _ = try prlimit.run(["--pid", "\(node.pid)", "--as=\(size):"])
        }
        let crowd = Flag()
        let threads = cluster.nodes.map { node in
          let port = node.httpPort
          return BackgroundThread {
            var clients: [HTTPClient] = []
            for number in 0..<60 where !crowd.isSet {
              guard let client = try? HTTPClient(port: port, receiveBytes: 4096) else { continue }
              let body = #"{"stmt":{"sql":"\#(Self.large[number % Self.large.count])"}}"#
              _ = client.trySend(bytes: Array(HTTPClient.text("POST", "/v1/execute", body).utf8))
              clients.append(client)
            }
            for client in clients { _ = try? client.answer() }
          }
        }
        for thread in threads { try thread.join() }
        let outcome = try load.stop()
        for node in cluster.nodes {
          if node.isRunning {
            _ = try prlimit.run(["--pid", "\(node.pid)", "--as=unlimited:"])
          } else {
            ended += 1
            node.kill()
            try node.start()
          }
        }
        try cluster.requireEqual()
        #expect(try outcome.problems(in: cluster.primary.database) == [], "room \(room)")
        #expect(outcome.acknowledged.count > 20)
      }
      note("with little memory \(ended) of 4 runs of nodes ended, and came back")
    }
  }
}
