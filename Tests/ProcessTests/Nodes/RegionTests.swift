// Nodes on three continents: real packets with delay and loss between network namespaces, and cuts
// in both directions or in one. Row 36 and 37 of the fault matrix, and what a request costs in
// round trips.
//
// Namespaces need root; elsewhere these tests say that they were skipped.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite(.enabled(if: RegionCluster.isPossible, "needs network namespaces"))
  struct RegionTests {
    /// From one continent to the next.
    private static let world = Wire.Condition(
      delayMilliseconds: 40, jitterMilliseconds: 5, loss: 0.015)

    private func makeCluster(seed: UInt64) throws -> RegionCluster {
      let cluster = try RegionCluster(seed: seed) { path in
        try Connection(path: path, mode: .create).execute(SessionLoad.schema)
      }
      try cluster.settle()
      return cluster
    }

    /// What all scenarios have in common: clients at all nodes, `fault`, and then everything goes
    /// on by itself, nothing is lost, and nobody saw what never was.
    private func underLoad(
      _ name: String, seed: UInt64, healsWithin seconds: Double = 40,
      _ fault: (RegionCluster, SessionLoad) throws -> Void
    ) throws {
      let cluster = try makeCluster(seed: seed)
      cluster.wire.setAll(Self.world)
      let load = SessionLoad(places: cluster.places, travellers: 4, seed: seed)
      try progress(load)
      try fault(cluster, load)
      cluster.wire.heal()
      let healed = try cluster.secondsUntilAllWrite(.seconds(seconds))
      try progress(load)
      let outcome = try load.stop()
      try cluster.requireEqual()
      let packets = cluster.wire.counts
      note("\(name): \(outcome.summary)")
      note("\(name): all write again \(tenths(healed)) s after the wire was whole; \(packets)")
      for node in cluster.nodes {
        #expect(try outcome.problems(in: node.database) == [], "seed \(seed)")
      }
      #expect(packets.lost > 0)
      // A write ends when its link is given up after 12 seconds, at most two links one after the
      // other, or when it waited its time for being visible.
      #expect(outcome.slowestWriteSeconds < 28)
    }

    private func progress(_ load: SessionLoad, transfers: Int = 20) throws {
      let before = load.acknowledgedCount
      try eventually("transfers", deadline: .seconds(40)) {
        load.acknowledgedCount >= before + transfers
      }
    }

    // MARK: Always

    /// 85 ms there and back, lost packets, and a cut that is shorter than what TCP bears.
    @Test func row37_delayAndLossAndAShortCut() throws {
      try underLoad("delay, loss and a short cut", seed: 37) { cluster, load in
        cluster.wire.cut(cluster.regions[0], cluster.regions[1])
        elapse(seconds: 2)
        cluster.wire.heal()
        try progress(load)
      }
    }

    // MARK: Long

    /// Both ends of a link are cut off for longer than a link may be silent.
    @Test(.enabled(if: NodeTests.runsFaults)) func row37_partitionThatHeals() throws {
      try underLoad("partition", seed: 371) { cluster, _ in
        cluster.wire.cut(cluster.regions[0], cluster.regions[1])
        try eventually("first to give up the link", deadline: .seconds(18)) {
          try cluster.upstreamState(1) == "connecting"
        }
        // Writes fail at once instead of waiting, at the end of the chain as well.
        for number in [1, 3] {
          let client = try cluster.places[number].connect()
          try eventually("a definite answer", deadline: .seconds(5)) {
            try client.query("UPDATE heartbeat SET n = n + 1").error == "PRIMARY_UNAVAILABLE"
          }
        }
        let second = try cluster.places[2].connect()
        #expect(try second.query("UPDATE heartbeat SET n = n + 1").error == nil)
        elapse(seconds: 5)
      }
    }

    /// Packets go one way only: both ends give the link up, by silence or by what TCP says.
    @Test(.enabled(if: NodeTests.runsFaults), arguments: [true, false])
    func row36_oneWayPartitionThatHeals(isDownCut: Bool) throws {
      try underLoad("one way, \(isDownCut ? "down" : "up") cut", seed: 36) { cluster, _ in
        let (primary, other) = (cluster.regions[0], cluster.regions[1])
        cluster.wire.cut(
          from: isDownCut ? primary : other, to: isDownCut ? other : primary)
        let began = Deadline.now()
        try eventually("the primary to give up the link", deadline: .seconds(45)) {
          try cluster.report(0)["replicas"]?.elements.contains { $0["name"]?.text == "first" }
            == false
        }
        let above = Double(Deadline.now() - began) / 1e9
        try eventually("first to give up the link", deadline: .seconds(45)) {
          try cluster.upstreamState(1) == "connecting"
        }
        let below = Double(Deadline.now() - began) / 1e9
        #expect(above < 16 && below < 16)
        note("given up above after \(tenths(above)) s, below after \(tenths(below)) s")
        elapse(seconds: 3)
      }
    }

    /// The primary is alone; the others still hear each other.
    @Test(.enabled(if: NodeTests.runsFaults)) func row37_primaryThatIsCutOffFromAll() throws {
      try underLoad("primary cut off", seed: 372) { cluster, _ in
        for other in cluster.regions.dropFirst() { cluster.wire.cut(cluster.regions[0], other) }
        for number in [1, 2] {
          try eventually("a replica to give up the link", deadline: .seconds(18)) {
            try cluster.upstreamState(number) == "connecting"
          }
        }
        #expect(try cluster.upstreamState(3) != "connecting")
        let primary = try cluster.places[0].connect()
        #expect(try primary.query("UPDATE heartbeat SET n = n + 1").error == nil)
        let third = try cluster.places[3].connect()
        try eventually("the end of the chain to know", deadline: .seconds(5)) {
          try third.query("UPDATE heartbeat SET n = n + 1").error == "PRIMARY_UNAVAILABLE"
        }
        elapse(seconds: 5)
      }
    }

    /// Links that come and go, shorter and longer than anybody's patience.
    @Test(.enabled(if: NodeTests.runsFaults)) func row37_flappingWire() throws {
      var random = SeededGenerator(seed: 373)
      try underLoad("flapping", seed: random.seed) { cluster, load in
        for round in 0..<12 {
          let from = cluster.regions[Int.random(in: 0..<3, using: &random)]
          let to = cluster.regions[(from.number + Int.random(in: 1...2, using: &random)) % 3]
          if round % 3 == 0 {
            cluster.wire.cut(from: from, to: to)
          } else {
            cluster.wire.cut(from, to)
          }
          elapse(seconds: .random(in: 0.2...(round % 4 == 3 ? 14 : 2), using: &random))
          cluster.wire.heal()
          elapse(seconds: .random(in: 0.1...1.5, using: &random))
        }
      }
    }
  }
}
