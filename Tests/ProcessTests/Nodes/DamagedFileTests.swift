// Files of a node that are gone, cut or scribbled over while it is down. A replica comes back as a
// prefix by itself and never serves less than before; a primary goes on, or says what is lost.
// Rows 2, 5, 11 and 14 to 17 of the fault matrix.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct DamagedFileTests {
    enum Damage: String, CaseIterable, Sendable {
      case logRemoved, logCut, logTailScribbled, logFlipped, logEmptied
      case indexRemoved, indexScribbled
      case mapRemoved, mapEmptied, mapFlipped, mapCut
      case fileRemoved, fileCut, everythingRemoved

      /// Whether so much is gone that pages must be copied again in number.
      var losesPages: Bool {
        self == .fileRemoved || self == .fileCut || self == .everythingRemoved
      }
    }

    private func apply(_ damage: Damage, to path: String) throws {
      let (log, index, map) = (path + "-wal", path + "-shm", path + "-pagemap")
      switch damage {
      case .logRemoved: unlink(log)
      case .logCut: truncate(log, off_t(Files.size(log) / 2))
      case .logTailScribbled: try scribble(log, from: Files.size(log) - 3000, count: 3000)
      case .logFlipped: try Files.flipBit(log, at: Files.size(log) / 2)
      case .logEmptied: truncate(log, 0)
      case .indexRemoved: unlink(index)
      case .indexScribbled: try scribble(index, from: 0, count: 4096)
      case .mapRemoved: unlink(map)
      case .mapEmptied: truncate(map, 0)
      case .mapFlipped: try Files.flipBit(map, at: 4096 + 16 * 1000 + 9)
      case .mapCut: truncate(map, 9000)
      case .fileRemoved: unlink(path)
      case .fileCut: truncate(path, off_t(Files.size(path) / 2))
      case .everythingRemoved:
        for suffix in ["", "-wal", "-shm", "-pagemap"] { unlink(path + suffix) }
      }
    }

    private func scribble(_ path: String, from: Int, count: Int) throws {
      var random = SeededGenerator(seed: 8)
      let descriptor = open(path, O_WRONLY | O_CLOEXEC)
      guard descriptor >= 0 else { throw TestFailure("\(path) cannot be opened") }
      defer { close(descriptor) }
      let bytes = random.bytes(count)
      guard pwrite(descriptor, bytes, count, off_t(max(0, from))) == count else {
        throw TestFailure("\(path) cannot be written")
      }
    }

    @Test(arguments: Damage.allCases) func rows14to17_damagedReplica(damage: Damage) throws {
      let cluster = try Cluster(
        replicas: 1, replicaArguments: ["--scrub-rate", "1GiB", "--checkpoint-frames", "100000"],
        prepare: { try Ballast.make($0, rows: 2000) })
      for number in 0..<40 { try cluster.primary.note("\(number)") }
      try cluster.settle()
      let served = try cluster.replica.txid()
      let copied = cluster.link.bytes(.down)
      // While the upstream is away, nothing that is older than before may be served.
      cluster.link.partition()
      try cluster.replica.whileKilled(waits: false) {
        try apply(damage, to: cluster.replica.database)
      }
      elapse(seconds: 0.5)
      if let early = try? cluster.replica.txid() { #expect(early >= served) }
      cluster.link.heal()
      try cluster.replica.waitUntilReady()
      #expect(try cluster.replica.txid() >= served)
      try cluster.primary.note("after")
      try eventually("the scrub is through") {
        try cluster.replica.status("scrub", "passes")?.integer ?? 0 > 0
      }
      try cluster.requireEqual()
      let moved = cluster.link.bytes(.down) - copied
      note("replica, \(damage.rawValue): \(moved) of \(copied) bytes moved")
      if !damage.losesPages { #expect(moved < copied / 10) }
    }

    @Test(arguments: Damage.allCases.filter { $0 != .fileRemoved && $0 != .everythingRemoved })
    func rows05and15_damagedPrimary(damage: Damage) throws {
      let cluster = try Cluster(
        replicas: 1,
        primaryArguments: ["--scrub-rate", "0B", "--checkpoint-frames", "100000"],
        prepare: { try Ballast.make($0, rows: 2000) })
      for number in 0..<40 { try cluster.primary.note("\(number)") }
      try cluster.settle()
      let token = try #require(try cluster.primary.connect().request(".token").token)
      let database = try cluster.primary.status("database")
      let copied = cluster.link.bytes(.down)
      if damage == .fileCut {
        cluster.primary.kill()
        try apply(damage, to: cluster.primary.database)
        let result = try Program.edgeSQL().run(
          [
            "primary", "--db", cluster.primary.database, "--listen", "127.0.0.1:0", "--ship", "off",
          ],
          deadline: .seconds(20))
        #expect(result.status != .exited(0), "\(result.error)")
        return
      }
      try cluster.primary.whileKilled { try apply(damage, to: cluster.primary.database) }
      try cluster.primary.note("after")
      #expect(try cluster.primary.status("database") == database)
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      // Either all of it is there, or the token of what is lost is refused.
      let answer = try cluster.replica.connect().query(
        "SELECT count(*) FROM notes", [], [("token", .string(token))])
      #expect(answer.integer == 41 || answer.error == "TOKEN_EPOCH")
      #expect(cluster.link.bytes(.down) - copied < copied / 10)
    }

    /// Files of different moments: the page map of an hour ago beside the database of now, and the
    /// reverse.
    @Test(arguments: [NodeProcess.Role.primary, .replica], [["-pagemap"], ["", "-wal"]])
    func row16_filesOfDifferentMoments(role: NodeProcess.Role, older: [String]) throws {
      let arguments = ["--scrub-rate", "0B", "--checkpoint-frames", "20"]
      let cluster = try Cluster(
        replicas: 1, primaryArguments: arguments, replicaArguments: arguments,
        prepare: { try Ballast.make($0, rows: 500) })
      try cluster.primary.note("first")
      try cluster.settle()
      let node = role == .primary ? cluster.primary : cluster.replica
      node.suspend()
      let before = try older.map { ($0, try Files.read(node.database + $0)) }
      node.resume()
      for number in 0..<60 { try cluster.primary.note("\(number)") }
      try cluster.settle()
      let token = try #require(try cluster.primary.connect().request(".token").token)
      try node.whileKilled {
        let name = role == .primary ? "primary.db" : "replica0.db"
        for (suffix, bytes) in before { try cluster.directory.write(name + suffix, bytes) }
        unlink(node.database + "-shm")
      }
      try cluster.primary.note("after")
      try eventually("the replica follows") {
        try cluster.replica.status("epoch") == cluster.primary.status("epoch")
      }
      try cluster.requireEqual()
      let answer = try cluster.replica.connect().query(
        "SELECT count(*) FROM notes", [], [("token", .string(token))])
      #expect(answer.integer == 62 || answer.error == "TOKEN_EPOCH", "\(answer.json)")
      if role == .replica { #expect(answer.integer == 62) }
    }

    /// A power loss takes what was not synced: an older, consistent set of files, and a page map
    /// that was written under another run of the system.
    @Test func row02_powerLossOfAReplica() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 500) })
      try cluster.primary.note("durable")
      try cluster.settle()
      let path = cluster.replica.database
      cluster.replica.suspend()
      let durable = try ["", "-wal", "-pagemap"].map { ($0, try Files.read(path + $0)) }
      cluster.replica.resume()
      for number in 0..<30 { try cluster.primary.note("\(number)") }
      try cluster.settle()
      let served = try cluster.replica.txid()
      cluster.link.partition()
      try cluster.replica.whileKilled(waits: false) {
        for (suffix, bytes) in durable {
          try cluster.directory.write("replica0.db" + suffix, bytes)
        }
        unlink(path + "-shm")
        try PageMapFiles.forgetBoot(path + "-pagemap")
      }
      elapse(seconds: 1)
      #expect((try? cluster.replica.txid()) == nil, "it serves although it may have served more")
      cluster.link.heal()
      try cluster.replica.waitUntilReady()
      #expect(try cluster.replica.txid() >= served)
      try cluster.requireEqual()
    }

    /// After an orderly stop the state is durable: a reboot does not keep it from being served.
    @Test func row02_rebootAfterAnOrderlyStopServesAtOnce() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 500) })
      try cluster.primary.note("durable")
      try cluster.settle()
      try cluster.replica.terminate()
      try PageMapFiles.forgetBoot(cluster.replica.database + "-pagemap")
      try cluster.primary.terminate()
      try cluster.replica.start()
      #expect(try cluster.replica.connect().integer("SELECT count(*) FROM notes") == 1)
    }

    /// What is acknowledged was synced; after a reboot the primary goes on in its epoch.
    @Test func row01_powerLossOfAPrimary() throws {
      let cluster = try Cluster(replicas: 1, prepare: { try Ballast.make($0, rows: 500) })
      for number in 0..<30 { try cluster.primary.note("\(number)") }
      try cluster.settle()
      let epoch = try cluster.primary.status("epoch")
      try cluster.primary.whileKilled {
        unlink(cluster.primary.database + "-shm")
        try PageMapFiles.forgetBoot(cluster.primary.database + "-pagemap")
      }
      try cluster.primary.note("after")
      #expect(try cluster.primary.status("epoch") == epoch)
      #expect(try cluster.primary.connect().integer("SELECT count(*) FROM notes") == 31)
      try cluster.requireEqual()
    }
  }
}
