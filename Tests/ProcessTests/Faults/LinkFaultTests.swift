// Links that are cut, slow, silent or carry other bits than were sent, under all workloads. Rows 13
// and 37 of the fault matrix.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct LinkFaultTests {
    @Test func rows13and37_brokenLinksUnderLoad() throws {
      var random = SeededGenerator(seed: 1337)
      print("seed \(random.seed)")
      let cluster = try Cluster(replicas: 2) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      let watch = PositionWatch(ports: cluster.replicas.map(\.listenPort))
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      for _ in 0..<(NodeTests.runsFaults ? 200 : 20) {
        let link = cluster.links[Int.random(in: 0...1, using: &random)]
        let direction: FaultProxy.Direction = Bool.random(using: &random) ? .up : .down
        let bytes = Int.random(in: 1..<6000, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: link.cut(after: bytes, direction)
        case 1: link.flipBit(after: bytes, direction)
        case 2: link.pause(direction)
        case 3: link.delay(milliseconds: .random(in: 1...40, using: &random))
        case 4: link.throttle(bytesPerSecond: 10_000 + bytes * 10)
        default: link.partition()
        }
        elapse(seconds: .random(in: 0..<0.3, using: &random))
        link.heal()
        try load.progress(1)
      }
      try load.progress(3)
      try load.stop()
      try watch.stop()
      try cluster.requireEqual()
      note("links that break: \(load.summary)")
      for node in cluster.nodes {
        try load.require(in: node)
      }
    }

    /// A link that is slower than the load: the replica falls behind and gets pages instead, what it
    /// shows is always whole, and clients that show a token wait or are told so.
    @Test func row37_linkThatIsTooSlow() throws {
      var random = SeededGenerator(seed: 37)
      let cluster = try Cluster(replicas: 1) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      cluster.link.throttle(bytesPerSecond: 40_000)
      let client = try cluster.primary.connect()
      for id in 1...60 {
        try client.run("INSERT INTO log(id, body) VALUES (-\(id), randomblob(2000))")
      }
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      try eventually("the replica is behind") {
        try cluster.primary.txid() > cluster.replica.txid() + 20
      }
      try load.progress(2)
      cluster.link.heal()
      try load.progress(5)
      try load.stop()
      try cluster.requireEqual()
      for node in cluster.nodes { try load.require(in: node) }
    }
  }
}
