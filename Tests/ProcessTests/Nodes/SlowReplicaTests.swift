// Followers that are slow, stopped, or cut off without a word: the others do not notice, and they
// catch up.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct SlowReplicaTests {
    /// A follower that says it is alive, and never reads: it costs what its socket and the ring
    /// hold.
    @Test func row35_aFollowerThatNeverReads() throws {
      let megabytes = NodeTests.runsFaults ? 200 : 40
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
      try client.run("INSERT INTO t VALUES (1, zeroblob(1000000))")
      let follower = try RawFollower(port: cluster.primary.shipPort, name: "deaf")
      try cluster.settle()
      let before = cluster.primary.memoryBytes("VmRSS")
      var beaten = Deadline.now()
      for _ in 0..<megabytes {
        try client.run("UPDATE t SET v = randomblob(1000000)")
        if Deadline.now() - beaten > 1_000_000_000 {
          try follower.sendHeartbeat()
          beaten = Deadline.now()
        }
      }
      // The other one kept up meanwhile, and is in no way behind.
      try cluster.settle(.seconds(30))
      let grown = cluster.primary.memoryBytes() - before
      let names = try cluster.primary.report()["replicas"]?.elements.map { $0["name"]?.text } ?? []
      note("\(megabytes) MB beside a follower that never reads: \(grown >> 20) MiB more")
      #expect(names.contains("deaf"))
      #expect(grown < 120 << 20)
      try follower.sendHeartbeat()
      #expect(try follower.readCopy().txid.rawValue > 1)
      try cluster.requireEqual()
    }

    /// Both ends of a link are open, and nothing arrives any more.
    @Test(.enabled(if: NodeTests.runsFaults)) func row36_halfOpenLink() throws {
      let cluster = try Cluster()
      let client = try cluster.primary.connect()
      try client.run(WriteLoad.schema)
      try cluster.settle()
      let connections = cluster.link.connections
      let began = Deadline.now()
      cluster.link.swallow()
      try client.run("INSERT INTO log(id, body) VALUES (1, 'into the void')")
      try eventually("a new link", deadline: .seconds(20)) {
        cluster.link.connections > connections
      }
      let seconds = Double(Deadline.now() - began) / 1e9
      note("a half-open link was given up after \(seconds) s")
      #expect(seconds < 15)
      try cluster.requireEqual()
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM log") == 1)
      try eventually("the primary to give up the old link", deadline: .seconds(20)) {
        try cluster.primary.report()["replicas"]?.elements.count == 1
      }
    }

    /// Nodes that stand still for moments: whoever waits for them gets an answer in the end, and
    /// none that is wrong.
    @Test func rows03and04_nodesThatStandStillUnderLoad() throws {
      var random = SeededGenerator(seed: 34)
      print("seed \(random.seed)")
      let cluster = try Cluster(replicas: 2) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      for _ in 0..<(NodeTests.runsFaults ? 60 : 6) {
        let node = cluster.nodes.randomElement(using: &random)
        node?.suspend()
        elapse(seconds: .random(in: 0..<0.6, using: &random))
        node?.resume()
        try load.progress(2)
      }
      try load.stop()
      try cluster.requireEqual()
      note("nodes that stand still: \(load.summary)")
      for node in cluster.nodes {
        try load.require(in: node)
      }
    }

    /// Nodes that stand still for longer than a link may be silent, one after the other, under
    /// load: whoever was given up joins again, and nothing is lost or doubled.
    @Test(.enabled(if: NodeTests.runsFaults)) func rows03and04_nodesThatStandStillForLong() throws {
      let cluster = try Cluster(replicas: 2)
      try cluster.primary.connect().run(WriteLoad.schema)
      try cluster.settle()
      let load = WriteLoad(
        ports: [cluster.primary.listenPort, cluster.replicas[1].listenPort], threads: 2)
      for node in [cluster.replica, cluster.primary] {
        let before = load.acknowledgedCount
        try eventually("writes") { load.acknowledgedCount > before + 20 }
        node.suspend()
        elapse(seconds: 14)
        node.resume()
        let stalled = load.acknowledgedCount
        try eventually("writes afterwards", deadline: .seconds(30)) {
          load.acknowledgedCount > stalled + 20
        }
      }
      let outcome = try load.stop()
      try cluster.requireEqual()
      #expect(try outcome.problems(in: cluster.primary.database) == [])
    }
  }
}
