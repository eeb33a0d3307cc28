// Pages that a disk changed by itself: found, and never served, shipped or forgotten. Rows 10 to 12
// of the fault matrix.

import EdgeTesting
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct RepairTests {
    /// A byte in the middle of a page of the ballast, which is in the file and not in the WAL.
    private let offset = 4096 * 3000 + 2000

    private func cluster(scrubRate: String = "0B") throws -> Cluster {
      let cluster = try Cluster(
        replicas: 1, primaryArguments: ["--scrub-rate", scrubRate],
        replicaArguments: ["--scrub-rate", scrubRate], prepare: { try Ballast.make($0) })
      try cluster.settle()
      return cluster
    }

    @Test func row10_flippedPageOfAReplicaIsFoundAtTheStartAndFetched() throws {
      let cluster = try cluster(scrubRate: "1GiB")
      try cluster.replica.terminate()
      try Files.flipBit(cluster.replica.database, at: offset)
      let moved = cluster.link.bytes(.down) + cluster.link.bytes(.up)
      try cluster.replica.start()
      try eventually("the page is repaired") {
        try cluster.replica.status("scrub", "repaired") == 1
      }
      try cluster.requireEqual()
      #expect(try cluster.replica.status("damage") == .null)
      let bytes = cluster.link.bytes(.down) + cluster.link.bytes(.up) - moved
      note("one flipped page repaired: \(bytes) bytes moved, heartbeats included")
      #expect(bytes < 50_000)
    }

    /// SQLite itself cannot read a database with this damage; a replica finds and mends it.
    @Test(arguments: [true, false]) func row10_damagedSchemaOfAReplica(isRunning: Bool) throws {
      let flags = ["--scrub-rate", isRunning ? "0B" : "1GiB"]
      let cluster = try Cluster(replicaArguments: flags) { path in
        let connection = try Connection(path: path, mode: .create)
        for number in 0..<200 { try connection.execute("CREATE TABLE many\(number)(a, b, c, d)") }
      }
      try cluster.settle()
      let (replica, file) = (cluster.replica, try Files.read(cluster.replica.database))
      let text = Array("CREATE TABLE many150".utf8)
      let place = try #require(
        (4096..<file.count - text.count).first { file[$0..<$0 + text.count].elementsEqual(text) })
      if isRunning {
        try Files.flipBit(replica.database, at: place + 6, bit: 5)
        try replica.connect().send(".scrub\n")
      } else {
        try replica.terminate()
        try Files.flipBit(replica.database, at: place + 6, bit: 5)
        try replica.start()
      }
      try eventually("the page is repaired") { try replica.status("scrub", "repaired") == 1 }
      #expect(try replica.connect().integer("SELECT count(*) FROM many150") == 0)
      try cluster.requireEqual()
    }

    @Test func row10_verifyRepairsARunningReplicaAndAStoppedOne() throws {
      let cluster = try cluster()
      let address = "127.0.0.1:\(cluster.replica.listenPort)"
      try Files.flipBit(cluster.replica.database, at: offset)
      try Files.flipBit(cluster.replica.database, at: offset + 9 * 4096)
      let running = try Program.edgeSQL().run(["verify", "--repair", address])
      #expect(running.succeeded, "\(running.error)")
      #expect(running.output.contains("2 damaged, 2 repaired"), "\(running.output)")
      try cluster.requireEqual()

      try cluster.replica.terminate()
      try Files.flipBit(cluster.replica.database, at: offset + 20 * 4096)
      let upstream = "127.0.0.1:\(cluster.primary.shipPort)"
      let found = try Program.edgeSQL().run(["verify", "--fast", cluster.replica.database])
      #expect(found.status == .exited(65))
      let stopped = try Program.edgeSQL().run(
        ["verify", "--repair", cluster.replica.database, "--upstream", upstream])
      #expect(stopped.succeeded, "\(stopped.error)")
      #expect(stopped.output.contains("1 damaged, 1 repaired"), "\(stopped.output)")
      try samePages(cluster.primary.database, cluster.replica.database)
      try cluster.replica.start()
      try cluster.requireEqual()
    }

    @Test func row10_damagedReplicaForwardsItsReadsUntilItIsRepaired() throws {
      let cluster = try cluster()
      cluster.link.partition()
      try Files.flipBit(cluster.replica.database, at: offset)
      let scrub = try cluster.replica.connect()
      try scrub.send(".scrub\n")
      try eventually("the damage is known") { try cluster.replica.status("damage")?.text != nil }
      let read = try cluster.replica.connect().query("SELECT count(*) FROM ballast")
      #expect(read.error == "PRIMARY_UNAVAILABLE")
      cluster.link.heal()
      try eventually("it is repaired") { try cluster.replica.status("damage") == .null }
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM ballast") == 5000)
      try cluster.requireEqual()
    }

    /// The change of a damaged page does not add up. Until the upstream has sent what is right,
    /// nothing is answered from the page, in the run that made the first copy as in any other.
    @Test func row10_damageThatAnUpdateMeetsIsNotServed() throws {
      let cluster = try cluster()
      cluster.link.pause(.up)
      try Files.flipBit(cluster.replica.database, at: offset)
      try cluster.primary.connect().run(
        "UPDATE ballast SET b = 'x' || substr(b, 2) WHERE id BETWEEN 2900 AND 3100")
      try eventually("the damage is known") { try cluster.replica.status("damage")?.text != nil }
      let read = try cluster.replica.connect().query("SELECT sum(length(b)) FROM ballast")
      #expect(read.error != nil, "\(read.json)")
      cluster.link.resume()
      try eventually("it is repaired") { try cluster.replica.status("damage") == .null }
      try cluster.requireEqual()
    }

    /// The map is wrong and the page is right: nothing needs to be fetched, on either side.
    @Test(arguments: [NodeProcess.Role.primary, .replica])
    func row15_damagedEntryOfThePageMapIsMended(role: NodeProcess.Role) throws {
      let cluster = try cluster()
      let node = role == .primary ? cluster.primary : cluster.replica
      try Files.flipBit(node.database + "-pagemap", at: 4096 + 16 * 3000 + 8 + 3, bit: 5)
      let result = try Program.edgeSQL().run(
        ["verify", "--repair", "127.0.0.1:\(node.listenPort)"])
      #expect(result.succeeded, "\(result.error)")
      #expect(result.output.contains("1 damaged entries of the page map mended"))
      try node.note("goes on")
      try cluster.requireEqual()
      let checked = try Program.edgeSQL().run(["verify", "--fast", node.database])
      #expect(checked.succeeded, "\(checked.output)")
    }

    /// Lets a node be in the middle of a slow pass.
    private func whileScrubbing(
      _ role: NodeProcess.Role, _ body: (NodeProcess) throws -> Void
    ) throws {
      let cluster = try cluster(scrubRate: "2MiB")
      let node = role == .primary ? cluster.primary : cluster.replica
      try eventually("a pass is under way") {
        (try node.status("scrub", "pages_done")?.integer ?? 0) > 256
      }
      try body(node)
      try node.note("goes on")
      try cluster.requireEqual()
    }

    /// A pass that runs already can be past what happened since.
    @Test func aScrubBeginsWhenItIsAskedFor() throws {
      try whileScrubbing(.replica) { node in
        try Files.flipBit(node.database, at: 4096 * 100 + 2000)
        let answer = try node.connect().request(".scrub").json
        #expect(answer["repaired"]?.integer == 1, "\(answer)")
        #expect(try node.status("scrub", "passes") == 2)
      }
    }

    @Test(arguments: [NodeProcess.Role.primary, .replica])
    func row15_entryThatIsDamagedDuringAScrubIsMended(role: NodeProcess.Role) throws {
      try whileScrubbing(role) { node in
        try Files.flipBit(node.database + "-pagemap", at: 4096 + 16 * 100 + 8 + 3, bit: 5)
        _ = try node.connect().request(".scrub")
        #expect(try node.status("scrub", "mended") == 1)
        #expect(try node.status("scrub", "damaged") == 0)
      }
    }

    @Test func row12_damagedPrimaryStopsAndShipsNothing() throws {
      let cluster = try cluster()
      try Files.flipBit(cluster.primary.database, at: offset)
      let result = try Program.edgeSQL().run(
        ["verify", "--repair", "127.0.0.1:\(cluster.primary.listenPort)"])
      #expect(result.status == .exited(65))
      let client = try cluster.primary.connect()
      #expect(try client.query("INSERT INTO notes(t) VALUES ('x')").error == "DAMAGED")
      #expect(try client.query("SELECT count(*) FROM ballast").error == "DAMAGED")
      #expect(try cluster.primary.status("damage")?.text?.contains("page 3001") == true)
      #expect(cluster.primary.errorText.contains("edge-sql restore"))
      // The replica keeps its own good pages, serves them, and a new one gets nothing.
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM ballast") == 5000)
      let stranger = try NodeProcess(
        .replica, in: cluster.directory, database: "new.db",
        arguments: ["--upstream", "127.0.0.1:\(cluster.primary.shipPort)"], ships: false,
        waits: false)
      try eventually("the new replica is refused") { stranger.errorText.contains("damaged") }
      #expect(!Files.exists(stranger.database))

      // A replica's file is as good as a backup.
      try cluster.replica.terminate()
      try cluster.primary.terminate()
      let epoch = try Program.edgeSQL().run(
        ["restore", cluster.replica.database, cluster.primary.database])
      #expect(epoch.succeeded, "\(epoch.error)")
      try cluster.primary.start()
      try cluster.primary.note("again")
      try cluster.replica.start()
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      #expect(try cluster.primary.connect().integer("SELECT count(*) FROM ballast") == 5000)
    }

    /// A page that was damaged while the primary was down is noticed before it is shipped.
    @Test func row12_pageDamagedWhileThePrimaryWasDown() throws {
      let cluster = try cluster(scrubRate: "1GiB")
      try cluster.primary.terminate()
      try Files.flipBit(cluster.primary.database, at: offset)
      try cluster.primary.start()
      try eventually("the scrub finds it") { try cluster.primary.status("damage")?.text != nil }
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM ballast") == 5000)
    }
  }
}
