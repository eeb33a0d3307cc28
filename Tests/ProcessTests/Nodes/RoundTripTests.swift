// What a request costs over a long wire, counted in round trips: the time it took, divided by that
// of a packet there and back. One more round trip than before is a change of behaviour, however
// fast the machine is.
//
// Namespaces need root; elsewhere these tests say that they were skipped.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite(.enabled(if: RegionCluster.isPossible, "needs network namespaces"))
  struct RoundTripTests {
    private static let oneWayMilliseconds = 40.0
    private static let rounds = NodeTests.runsFaults ? 15 : 5

    /// The least of some measurements, in round trips: a busy machine only adds to them.
    private static func roundTrips(_ body: (Int) throws -> UInt64) throws -> Double {
      let times = try (0..<rounds).map { try Double(body($0)) / 1e6 }
      return (times.min() ?? 0) / (2 * oneWayMilliseconds)
    }

    /// How long `body` takes, in nanoseconds.
    private static func time(_ body: () throws -> Void) rethrows -> UInt64 {
      let began = Deadline.now()
      try body()
      return Deadline.now() - began
    }

    private struct Line {
      var what: String
      var expected: Double
      var measured: Double
      /// Less than half a round trip more or less, the noise of a busy machine.
      var isRight: Bool { measured > expected - 0.25 && measured < expected + 0.75 }
    }

    @Test func roundTripsOfEachRequest() throws {
      let cluster = try RegionCluster(seed: 1) { path in
        try Connection(path: path, mode: .create).execute(SessionLoad.schema)
      }
      try cluster.settle()
      cluster.wire.setAll(Wire.Condition(delayMilliseconds: Self.oneWayMilliseconds))
      var lines = try requests(cluster, 1, hops: 1) + requests(cluster, 3, hops: 2)
      lines += try lags(cluster)
      for line in lines {
        let text = line.what + String(repeating: " ", count: max(1, 56 - line.what.count))
        note("\(text) \(line.expected) round trips, measured \(hundredths(line.measured))")
      }
      // A request that comes at the very moment a heartbeat goes out is no other; half a local
      // read's worth of noise is, and so is a whole round trip.
      #expect(lines.filter { !$0.isRight }.map(\.what) == [])
      try cluster.requireEqual()
    }

    /// Requests of a client beside node `number`, which is `hops` links away from the primary.
    private func requests(_ cluster: RegionCluster, _ number: Int, hops: Double) throws -> [Line] {
      let place = cluster.places[number]
      let client = try place.connect()
      let name = "\(place.name), \(Int(hops)) hops: "
      var lines: [Line] = []
      func measure(_ what: String, _ expected: Double, _ body: (Int) throws -> UInt64) throws {
        lines.append(
          Line(what: name + what, expected: expected, measured: try Self.roundTrips(body)))
      }
      let read = "SELECT sum(balance) FROM account"
      let write = "UPDATE heartbeat SET n = n + 1"
      try measure("local read", 0) { _ in try Self.time { try client.run(read) } }
      try measure("write", hops) { _ in try Self.time { try client.run(write) } }
      try measure("batch of three writes", hops) { _ in
        try Self.time { try client.request("\(write); \(write); \(write)") }
      }
      try measure("eight writes in flight", hops) { _ in
        try Self.time {
          try client.send(String(repeating: write + "\n", count: 8))
          for _ in 0..<8 where try client.receive().error != nil {
            throw TestFailure("a write failed")
          }
        }
      }
      try measure("read of the own write", 0) { _ in
        try client.run(write)
        return try Self.time { try client.run(read) }
      }
      try measure("transaction of three reads", 0) { _ in
        try Self.time { for sql in ["BEGIN", read, read, read, "COMMIT"] { try client.run(sql) } }
      }
      try measure("transaction of two writes: each and COMMIT", 3 * hops) { _ in
        try Self.time { for sql in ["BEGIN", write, write, "COMMIT"] { try client.run(sql) } }
      }
      try measure("BEGIN IMMEDIATE, a write, COMMIT", 3 * hops) { _ in
        try Self.time { for sql in ["BEGIN IMMEDIATE", write, "COMMIT"] { try client.run(sql) } }
      }
      try measure("read \"latest\"", hops) { _ in
        try Self.time { try client.run(read, [], [("read", "latest")]) }
      }
      return lines
    }

    /// From the answer to a write beside the primary to a read at each node that shows its token.
    private func lags(_ cluster: RegionCluster) throws -> [Line] {
      let writer = try cluster.places[0].connect()
      return try zip([1, 2, 3], [0.5, 0.5, 1.0]).map { number, expected in
        let reader = try cluster.places[number].connect()
        let measured = try Self.roundTrips { _ in
          let token = try writer.run("UPDATE heartbeat SET n = n + 1").token ?? ""
          return try Self.time {
            try reader.run(
              "SELECT n FROM heartbeat", [],
              [("token", .string(token)), ("wait_ms", 20_000), ("on_lag", "error")])
          }
        }
        let name = cluster.places[number].name
        return Line(what: "from a commit to \(name)", expected: expected, measured: measured)
      }
    }
  }
}

/// With two digits behind the point.
private func hundredths(_ number: Double) -> String {
  let whole = Int((number * 100).rounded())
  return "\(whole / 100).\(whole % 100 < 10 ? "0" : "")\(whole % 100)"
}
