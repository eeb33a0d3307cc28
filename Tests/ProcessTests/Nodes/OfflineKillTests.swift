// Nodes that are killed while an offline copy pushes: what was pushed is there once, whatever the copy
// was told and however often it tried.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct OfflineKillTests {
    private static let http = ["--http", "127.0.0.1:0"]

    @Test func aPushIsDoneOnceWhoeverIsKilled() throws {
      var random = SeededGenerator(seed: 77)
      let cluster = try Cluster(primaryArguments: Self.http, replicaArguments: Self.http)
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(n, data)")
      try client.run("INSERT INTO t VALUES (0, zeroblob(20000))")
      var pushed = 0
      for node in cluster.nodes {
        try cluster.settle()
        let embedded = EmbeddedCopy()
        try embedded.begin(node.httpPort)
        let name = "\(node.role.rawValue)-copy.db"
        let copy = try OfflineCopy(embedded, in: cluster.directory, name)
        for round in 0..<(NodeTests.runsFaults ? 60 : 12) {
          try copy.write("UPDATE t SET n = n + 1, data = randomblob(\(20_000 + round))")
          let victim = round % 3 == 0 ? cluster.primary : node
          let range = copy.durable + 1...(try copy.last)
          let request = copy.request(range, try copy.bytes(range))
          let port = node.httpPort
          // Nobody hears what it is answered.
          let pushing = BackgroundThread {
            let client = try HTTPClient(port: port)
            if client.trySend(bytes: request) { _ = try? client.answer() }
          }
          elapse(seconds: .random(in: 0..<0.03, using: &random))
          victim.kill()
          try? pushing.join()
          try victim.start()
          var outcome: OfflineCopy.Outcome?
          try? eventually("the push comes through", deadline: .seconds(30)) {
            outcome = try? copy.push(node.httpPort)
            return outcome == .pushed || outcome == .conflict
          }
          try #require(outcome == .pushed, "\(node.role) round \(round)")
          pushed += 1
          try cluster.settle()
          for reader in cluster.nodes {
            let answer = try reader.connect().request("SELECT n FROM t")
            #expect(answer.integer == Int64(pushed), "\(reader.role) round \(round)")
          }
        }
      }
      try cluster.requireEqual()
    }
  }
}
