// Row 24 of the fault matrix: what an earlier release wrote and sent, and what a later one would.

import EdgeTesting
import Glibc
import NIOCore
import Serving
import Store
import Testing
import WALShip

extension NodeTests {
  @Suite struct UpgradeTests {
    // MARK: Files of the first release

    @Test func row24_primaryOfTheFirstReleaseGoesOn() throws {
      let directory = try TestDirectory()
      try UpgradeFiles.copy("primary.db", to: directory)
      let expected = try UpgradeFiles.expected()
      let primary = try NodeProcess(.primary, in: directory, database: "primary.db")
      let report = try primary.report()
      for key in ["database", "epoch", "txid", "checksum"] {
        #expect(report[key] == expected[key], "\(key)")
      }
      let client = try primary.connect()
      let tokens = expected["tokens"]?.elements ?? []
      #expect(!tokens.isEmpty)
      for token in tokens {
        let answer = try client.query("SELECT count(*) FROM note", [], [("token", token)])
        #expect(answer.integer == 2, "\(answer.json)")
      }
      // The key of an earlier request is still known, and the answer that it got; but only for a
      // day, so another program makes it young again.
      let before = try #require(expected["txid"]?.integer)
      let other = try Connection(path: primary.database, mode: .readWrite)
      other.waitForLocks(milliseconds: 5000)
      try other.execute("UPDATE _edge_keys SET at = unixepoch() WHERE key = 'first-key'")
      try eventually("the commit has a number") { try primary.txid() == before + 1 }
      let sql = "INSERT INTO item(name) VALUES ('once')"
      try client.run(sql, [], [("key", "first-key")])
      #expect(try client.integer("SELECT count(*) FROM item WHERE name = 'once'") == 1)
      try client.run("INSERT INTO note VALUES ('after the upgrade')")
      #expect(try primary.txid() == before + 2)
      #expect(try primary.report()["epoch"] == expected["epoch"])
    }

    @Test func row24_replicaOfTheFirstReleaseFollows() throws {
      let directory = try TestDirectory()
      try UpgradeFiles.copy("primary.db", to: directory)
      try UpgradeFiles.copy("replica.db", to: directory)
      let primary = try NodeProcess(.primary, in: directory, database: "primary.db")
      try primary.connect().run("INSERT INTO note VALUES ('before it came')")
      let link = try FaultProxy(to: primary.shipPort)
      let replica = try NodeProcess(
        .replica, in: directory, database: "replica.db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"], ships: false)
      try primary.connect().run("INSERT INTO note VALUES ('and after')")
      try eventually("the replica follows") {
        try replica.report()["position"] == primary.report()["position"]
      }
      try samePages(primary.database, replica.database)
      #expect(link.bytes(.down) < 2500, "only what it missed: \(link.bytes(.down))")
    }

    // MARK: Streams of the first release

    /// A replica of this release follows a recorded primary: copy, transactions, catch-up,
    /// comparison.
    @Test func row24_replicaUnderstandsTheFirstRelease() throws {
      let directory = try TestDirectory()
      let expected = try UpgradeFiles.expected()
      var replica: NodeProcess?
      for name in ["copy", "catch-up", "comparison"] {
        let player = try StreamPlayer(try UpgradeFiles.read("\(name).down"))
        let upstream = ["--upstream", "127.0.0.1:\(player.port)"]
        if let replica {
          try replica.terminate()
          if name == "comparison" { try UpgradeFiles.spoil(replica.database) }
          replica.arguments = upstream
          try replica.start()
        } else {
          replica = try NodeProcess(
            .replica, in: directory, database: "replica.db", arguments: upstream, ships: false)
        }
        let node = try #require(replica)
        try eventually("the end of \(name)", deadline: .seconds(30)) {
          let report = try node.report()
          return report["txid"] == expected[name]?["txid"]
            && report["checksum"] == expected[name]?["checksum"]
            && report["upstream"]?["state"] == "streaming"
        }
        try eventually("all pages are right") {
          try node.connect().request(".scrub").json["damaged"]?.integer == 0
        }
      }
      try replica?.terminate()
      let connection = try Connection(path: directory.file("replica.db"), mode: .readOnly)
      #expect(
        try connection.queryInteger("SELECT count(*) FROM item WHERE name LIKE 'changed%'") == 4)
    }

    /// The recorded messages of a follower, each kind of stream, are taken by a primary of this
    /// release.
    @Test(arguments: ["copy", "catch-up", "comparison"])
    func row24_primaryUnderstandsTheFirstRelease(_ name: String) throws {
      let directory = try TestDirectory()
      try UpgradeFiles.copy("primary.db", to: directory)
      let primary = try NodeProcess(.primary, in: directory, database: "primary.db")
      let follower = try ShipConnection(port: primary.shipPort)
      var recorded = ByteBuffer(bytes: try UpgradeFiles.read("\(name).up"))
      var messages: [ShipMessage] = []
      while let message = try recorded.readShipMessage() { messages.append(message) }
      // Writes among them would be made before the copy is read, or behind it.
      let requests = messages.firstIndex { $0.kind == .request } ?? messages.count
      for message in messages[..<requests] { try follower.send(message) }
      let end: ShipMessageKind = name == "catch-up" ? .heartbeat : .roundEnd
      let challenge = try ShipChallenge(decoding: try follower.receive(.challenge))
      #expect(challenge.version == 1)
      var welcome = try follower.receive(.welcome)
      welcome.moveReaderIndex(forwardBy: 32)
      #expect(try ShipWelcome(decoding: welcome).history.current.rawValue == 1)
      let last = try follower.receive(end)
      if end == .roundEnd {
        let position = try ShipRoundEnd(decoding: last).position
        #expect(position.checksum.description == (try UpgradeFiles.expected())["checksum"]?.text)
      }
      for message in messages[requests...] { try follower.send(message) }
      if requests < messages.count { _ = try follower.receive(.response) }
      #expect((requests < messages.count) == (name == "copy"))
    }

    // MARK: Later releases

    @Test func row24_followerOfALaterReleaseIsServedOrRefused() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      var hello = ShipHello(nonce: [UInt8](repeating: 1, count: ShipHello.nonceBytes))
      hello.highestVersion = 2
      let both = try ShipConnection(port: primary.shipPort)
      try both.send(ShipMessage(.hello, body: hello.encode()))
      #expect(try ShipChallenge(decoding: try both.receive(.challenge)).version == 1)

      (hello.lowestVersion, hello.highestVersion) = (3, 4)
      let later = try ShipConnection(port: primary.shipPort)
      try later.send(ShipMessage(.hello, body: hello.encode()))
      let refusal = try ShipRefusal(decoding: try later.receive(.refuse))
      #expect(refusal.reason == .version)
      #expect(
        refusal.message == "this node speaks protocol 1 to 1, the follower 3 to 4", "both are named"
      )
    }

    @Test func row24_replicaOfALaterPrimarySaysWhy() throws {
      let directory = try TestDirectory()
      let nonce = [UInt8](repeating: 1, count: ShipHello.nonceBytes)
      let refusal = ShipRefusal(.version, "this node speaks protocol 2 to 3, the follower 1 to 1")
      let cases = [
        (ShipMessage(.refuse, body: refusal.encode()), "protocol 2 to 3, the follower 1 to 1"),
        (
          ShipMessage(
            .challenge, body: ShipChallenge(version: 2, nonce: nonce, proof: []).encode()),
          "chose protocol 2, this node speaks 1 to 1"
        ),
      ]
      for (number, (message, words)) in cases.enumerated() {
        var stream = ByteBuffer()
        stream.writeShipMessage(message)
        let player = try StreamPlayer(Array(stream.readableBytesView))
        let replica = try NodeProcess(
          .replica, in: directory, database: "r\(number).db",
          arguments: ["--upstream", "127.0.0.1:\(player.port)"], ships: false, waits: false)
        try eventually("the reason is in the log: \(replica.errorText)", deadline: .seconds(20)) {
          replica.errorText.contains(words)
        }
        #expect(replica.isRunning)
        #expect(!Files.exists(replica.database))
      }
    }

    @Test(arguments: ["primary.db", "replica.db"])
    func row24_pageMapOfALaterReleaseStopsTheStart(_ name: String) throws {
      let directory = try TestDirectory()
      try UpgradeFiles.copy(name, to: directory)
      try Self.makeLater(directory, name + "-pagemap")
      try requireRefusal(directory, name)
    }

    /// The identity alone is of a later release, and the page map is lost.
    @Test func row24_identityOfALaterReleaseStopsTheStart() throws {
      let directory = try TestDirectory()
      try UpgradeFiles.copy("primary.db", to: directory)
      try Self.makeLater(directory, "primary.db-identity")
      try requireRefusal(directory, "primary.db")
      Files.removeAll(directory.file("primary.db-pagemap"))
      try requireRefusal(directory, "primary.db")
    }

    /// The start ends with 65, and every file is as it was.
    private func requireRefusal(_ directory: TestDirectory, _ name: String) throws {
      let names = Files.names(in: directory.path)
      let before = try names.map { try Files.read(directory.file($0)) }
      let role =
        name == "primary.db" ? ["primary"] : ["replica", "--upstream", "127.0.0.1:1"]
      let result = try Program.edgeSQL().run(
        role + [
          "--db", directory.file(name), "--listen", "127.0.0.1:0", "--ship", "127.0.0.1:0",
        ], deadline: .seconds(20))
      #expect(result.status == .exited(65), "\(result.status) \(result.error)")
      #expect(result.error.contains("newer release"), "\(result.error)")
      let after = Files.names(in: directory.path).filter { !$0.hasSuffix("-shm") }
      #expect(after == names)
      #expect(try names.map { try Files.read(directory.file($0)) } == before)
    }

    /// Raises the version of the format in a page map or an identity.
    private static func makeLater(_ directory: TestDirectory, _ name: String) throws {
      var bytes = try Files.read(directory.file(name))
      bytes[8] = 2
      let sum = bytes.withUnsafeBytes {
        xxh64(UnsafeRawBufferPointer(rebasing: $0[..<56]), seed: 0)
      }
      bytes.withUnsafeMutableBytes {
        $0.storeBytes(of: sum.littleEndian, toByteOffset: 56, as: UInt64.self)
      }
      try directory.write(name, bytes)
    }
  }
}
