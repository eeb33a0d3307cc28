// One bit that changes in each file of a node, while it runs and while it does not, beside clients
// that work all the time. Rows 10 to 12 and 15 of the fault matrix.
//
// The bits are in pages that no client reads: until the scrub has found a page, its content is not
// promised. In a wal-index that is in use only the header has a checksum, so the bit is there.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing
import WALShip

extension NodeTests {
  @Suite struct BitFlipTests {
    enum Place: CaseIterable {
      case file, log, index, map, identity

      var suffix: String {
        switch self {
        case .file: ""
        case .log: "-wal"
        case .index: "-shm"
        case .map: "-pagemap"
        case .identity: "-identity"
        }
      }

      /// What a scrub of a node that can mend counts when it finds the bit.
      var counter: String? {
        switch self {
        case .file, .log: "repaired"
        case .map: "mended"
        case .index, .identity: nil
        }
      }
    }

    private static let flags = ["--scrub-rate", "1GiB", "--checkpoint-frames", "100000"]
    /// Pages of the ballast that are in the file alone, and rows of it that are in the WAL.
    private static let pages = 250...430
    private static let rows = 100...120

    private func makeCluster() throws -> Cluster {
      let cluster = try Cluster(
        primaryArguments: Self.flags, replicaArguments: Self.flags
      ) { path in
        try Ballast.make(path, rows: 500)
        try Connection(path: path, mode: .readWrite).execute(WorkloadSet.schemaBesideLog)
      }
      try cluster.settle()
      return cluster
    }

    /// Lets pages of the ballast be in the WALs of both nodes.
    private func fillLogs(_ cluster: Cluster) throws {
      try cluster.primary.connect().run(
        "UPDATE ballast SET b = randomblob(4000) "
          + "WHERE id BETWEEN \(Self.rows.lowerBound) AND \(Self.rows.upperBound)")
      try eventually("the rows arrive") {
        let sql = "SELECT hex(b) FROM ballast WHERE id = \(Self.rows.upperBound)"
        return try cluster.replica.connect().query(sql).value
          == cluster.primary.connect().query(sql).value
      }
    }

    private func flip(
      _ place: Place, of node: NodeProcess, _ random: inout SeededGenerator
    ) throws {
      let path = node.database + place.suffix
      let page = Int.random(in: Self.pages, using: &random)
      let offset =
        switch place {
        case .file: 4096 * (page - 1) + .random(in: 0..<4096, using: &random)
        case .log: try ballastFrame(path) + .random(in: 24..<4000, using: &random)
        case .index: Int.random(in: 0..<40, using: &random)
        case .map: 4096 + 16 * page + .random(in: 8..<16, using: &random)
        case .identity: Int.random(in: 0..<max(1, Files.size(path)), using: &random)
        }
      try Files.flipBit(path, at: offset, bit: .random(in: 0..<8, using: &random))
    }

    /// Where the newest frame of the last row of the ballast that was changed is.
    private func ballastFrame(_ path: String) throws -> Int {
      let bytes = try Files.read(path)
      let frameBytes = 4096 + FrameHeader.byteCount
      var found: Int?
      for offset in stride(
        from: WALHeader.byteCount, to: bytes.count - frameBytes + 1, by: frameBytes)
      {
        let pgno = bytes[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
        // Rows of 4,000 bytes have a page each, in their order.
        if Self.rows.contains(pgno - 5) { found = offset }
      }
      guard let found else { throw TestFailure("no page of the ballast is in \(path)") }
      return found
    }

    private func scrub(_ node: NodeProcess) throws -> JSONValue {
      var answer = JSONValue.null
      try eventually("a scrub of \(node.database)") {
        answer = try node.connect().request(".scrub").json
        return answer["error"]?["code"]?.text != "OVERLOADED"
      }
      return answer
    }

    /// Flips a bit and scrubs. An earlier pass may come upon the bit first, so what counts is what the
    /// node has found by then.
    private func flipAndScrub(
      _ place: Place, of node: NodeProcess, _ random: inout SeededGenerator
    ) throws {
      let before = try node.status("scrub")
      try flip(place, of: node, &random)
      let answer = try scrub(node)
      let after = try node.status("scrub")
      guard let counter = place.counter else { return }
      let was = try #require(before?[counter]?.integer)
      #expect(after?[counter]?.integer == was + 1, "\(place): \(answer)")
    }

    @Test func rows10and11_flippedBitsOfAReplica() throws {
      var random = SeededGenerator(seed: 1011)
      print("seed \(random.seed)")
      let cluster = try makeCluster()
      let node = cluster.replica
      let watch = PositionWatch(ports: [node.listenPort])
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      for _ in 0..<(NodeTests.runsFaults ? 8 : 1) {
        for place in [Place.file, .log, .index, .map].shuffled(using: &random) {
          for runs in [true, false] {
            try fillLogs(cluster)
            if runs {
              try flipAndScrub(place, of: node, &random)
            } else {
              try node.whileKilled { try flip(place, of: node, &random) }
              _ = try scrub(node)
            }
            try load.progress(2)
            #expect(try node.status("damage") == .null)
          }
        }
      }
      try load.stop()
      try watch.stop()
      try cluster.requireEqual()
      note("bits of a replica: \(load.summary)")
      for node in cluster.nodes { try load.require(in: node) }
      #expect(try Program.edgeSQL().run(["verify", "--fast", node.database]).succeeded)
    }

    /// What a primary mends by itself, and what begins a new epoch or stops it.
    @Test func rows12and15_flippedBitsOfAPrimary() throws {
      var random = SeededGenerator(seed: 1215)
      print("seed \(random.seed)")
      let cluster = try makeCluster()
      let node = cluster.primary
      let epoch = try node.status("epoch")
      let database = try node.status("database")
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      for place in [Place.index, .map, .identity].shuffled(using: &random) {
        try fillLogs(cluster)
        try flipAndScrub(place, of: node, &random)
        try load.progress(2)
        try node.whileKilled { try flip(place, of: node, &random) }
        _ = try scrub(node)
        try load.progress(2)
        #expect(try node.status("damage") == .null)
        #expect(try node.status("epoch") == epoch)
        #expect(try node.status("database") == database)
      }
      try load.stop()
      try cluster.requireEqual()
      for node in cluster.nodes { try load.require(in: node) }
      for (run, place) in [Place.file, .log].enumerated() {
        try stopsAndIsRestored(cluster, place, run: run + 1, &random)
      }
    }

    private func stopsAndIsRestored(
      _ cluster: Cluster, _ place: Place, run: Int, _ random: inout SeededGenerator
    ) throws {
      let node = cluster.primary
      try fillLogs(cluster)
      let load = WorkloadSet(
        ports: cluster.ports, run: run, random: &random, tolerated: ["DAMAGED"])
      try load.progress(2)
      try flip(place, of: node, &random)
      let found = try scrub(node)
      #expect(found["error"] != nil || found["damaged"]?.integer == 1, "\(found)")
      try eventually("the primary stops") {
        try node.connect().query("SELECT 1 FROM ballast").error == "DAMAGED"
      }
      try load.stop()
      // Nothing that was promised is in the damaged page.
      try load.require(in: node)
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM ballast") == 500)
      let copy = cluster.directory.file("good\(run).db")
      let backup = try Program.edgeSQL().run(
        ["backup", "127.0.0.1:\(cluster.replica.listenPort)", copy])
      #expect(backup.succeeded, "\(backup.error)")
      try node.terminate()
      let restored = try Program.edgeSQL().run(["restore", copy, node.database])
      #expect(restored.succeeded, "\(restored.error)")
      try node.start()
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == node.status("epoch")
      }
      let again = WorkloadSet(ports: cluster.ports, run: run + 10, random: &random)
      try again.progress(2)
      try again.stop()
      try cluster.requireEqual()
      for node in cluster.nodes { try again.require(in: node) }
    }
  }
}
