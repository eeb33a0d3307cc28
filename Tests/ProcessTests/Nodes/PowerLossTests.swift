// The power fails: a file system on a loop device stops in the middle of its work, forgets what was
// not synced, and is mounted again as after a start of the system. Rows 1 and 2 of the fault matrix,
// P4 and P7.
//
// Mounting needs root; elsewhere these tests say that they were skipped.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct PowerLossTests {
    /// The kinds of disks that this machine has; says why it does not have the others.
    private static let kinds: [PowerDisk.Kind] = PowerDisk.Kind.allCases.filter { kind in
      guard let reason = PowerLab.whyNot(kind) else { return true }
      print("skipped: losses of power on \(kind.rawValue): \(reason)")
      return false
    }
    static let shortKinds = NodeTests.runsFaults ? kinds : Array(kinds.prefix(1))
    private static let rounds = NodeTests.runsFaults ? 10 : 3

    // MARK: Row 1, the primary

    /// Under load at the primary and through a replica, beside another program that does not
    /// sync its commits, and with a checkpoint each few commits.
    @Test(arguments: PowerLossTests.shortKinds)
    func row01_acknowledgedCommitsSurviveLossesOfPower(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { try Self.losePrimary(kind, $0) }
      #expect(problems == [])
    }

    private static func losePrimary(
      _ kind: PowerDisk.Kind, _ bench: PowerBench
    ) throws -> [String] {
      var random = SeededGenerator(seed: 1)
      var problems: [String] = []
      let disk = try bench.makeDisk(kind)
      try Ballast.make(disk.file("p.db"), rows: 300)
      let primary = try NodeProcess(
        .primary, in: bench.directory, database: disk.file("p.db"),
        arguments: ["--checkpoint-frames", "40"])
      let replica = try NodeProcess(
        .replica, in: bench.directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false)
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      let load = WriteLoad(
        ports: [primary.listenPort, replica.listenPort], threads: 3, diskMayFail: true)
      var others = 0
      for round in 0..<rounds {
        let foreign = try ForeignWriter(to: primary.database, round: round)
        let writeback = try Writeback(
          ["", "-wal", "-pagemap"].map { primary.database + $0 }, seed: random.next())
        let (before, limit) = (load.acknowledgedCount, Int.random(in: 20...200, using: &random))
        try eventually("writes in round \(round)") { load.acknowledgedCount >= before + limit }
        try disk.losePower()
        problems += try afterTheEnd(primary)
        primary.kill()
        foreign.kill()
        try writeback.stop()
        // What a replica shows was durable, foreign commits as well.
        let shown = try replica.txid()
        let seen = try replica.connect().integer("SELECT count(*) FROM notes")
        let acknowledged = load.outcome.acknowledged
        try disk.restorePower()
        try primary.start()
        let report = try primary.report()
        if report["epoch"] != 1 { problems.append("round \(round): a new epoch, \(report)") }
        if try primary.txid() < shown { problems.append("round \(round): the replica is ahead") }
        let kept = try primary.connect().integer("SELECT count(*) FROM notes")
        if kept < seen { problems.append("round \(round): \(kept) of \(seen) foreign commits") }
        others = max(others, Int(kept))
        let rows = try primary.connect().run("SELECT id FROM log").rows
        let lost = acknowledged.subtracting(rows.compactMap { $0.first?.integer })
        if !lost.isEmpty { problems.append("round \(round): lost \(lost.sorted().prefix(5))") }
      }
      let outcome = try load.stop()
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
      note(
        "\(kind.rawValue), \(rounds) losses of power of a primary: \(outcome.acknowledged.count) "
          + "acknowledged, \(outcome.unknown.count) unknown, \(others) commits of another program")
      if others == 0 { problems.append("the other program never committed") }
      return try problems + outcome.problems(in: primary.database)
    }

    /// A node whose disk is gone acknowledges nothing, and does not hang: it refuses, or it ends.
    private static func afterTheEnd(_ node: NodeProcess) throws -> [String] {
      guard let client = try? node.connect() else {
        note("without its disk, the node has ended: \(node.status?.description ?? "it runs")")
        return []
      }
      client.seconds = 10
      var answers: [String] = []
      for _ in 0..<3 {
        do {
          let answer = try client.query("INSERT INTO log(id, body) VALUES (-1, 'too late')")
          answers.append(answer.error.map { "\($0): \(answer.message)" } ?? "acknowledged")
        } catch {
          answers.append("\(error)")
          break
        }
      }
      if answers.contains(where: { $0.contains("closed") }) {
        try? eventually("the end", deadline: .seconds(5)) { !node.isRunning }
      }
      let status = node.status?.description ?? "it runs"
      note("without its disk, writes get \(answers); \(status)")
      var problems = answers.filter { $0 == "acknowledged" || $0.contains("did not answer") }
      // A trap of our own would be a bug; SIGBUS is what the kernel does to whoever has a file mapped.
      let mayBe: [ChildProcess.Status?] = [nil, .signalled(SIGBUS)]
      if let ended = node.status, case .signalled = ended, !mayBe.contains(ended) {
        problems.append("the node ended with \(ended)")
      }
      return problems
    }

    /// A commit that could not be synced can be on the disk all the same: its answer is never that it
    /// was not made.
    @Test(arguments: PowerLossTests.shortKinds)
    func row09_commitThatMayBeOnTheDiskIsUnknown(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { bench in
        var random = SeededGenerator(seed: 9)
        let disk = try bench.makeDisk(kind)
        try Connection(path: disk.file("p.db"), mode: .create).execute(WriteLoad.schema)
        let primary = try NodeProcess(.primary, in: bench.directory, database: disk.file("p.db"))
        let load = WriteLoad(ports: [primary.listenPort], threads: 4, depth: 8, diskMayFail: true)
        for _ in 0..<Self.rounds * 3 {
          let writeback = try Writeback(
            [primary.database + "-wal"], pauseSeconds: 0...0.0005, seed: random.next())
          let (before, limit) = (load.acknowledgedCount, Int.random(in: 20...100, using: &random))
          try eventually("writes") { load.acknowledgedCount >= before + limit }
          try disk.losePower()
          // The answers to what was under way.
          elapse(seconds: 0.05)
          primary.kill()
          try writeback.stop()
          try disk.restorePower()
          try primary.start()
        }
        let outcome = try load.stop()
        note("\(kind.rawValue): \(outcome.unknown.count) unknown, \(outcome.refused.count) refused")
        return try outcome.problems(in: primary.database)
      }
      #expect(problems == [])
    }

    /// A primary that was made a moment ago: its names are durable as well as its pages.
    @Test(arguments: PowerLossTests.shortKinds)
    func row01_newPrimaryLosesPowerAtOnce(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { bench in
        var problems: [String] = []
        let disk = try bench.makeDisk(kind)
        for round in 0..<Self.rounds {
          let name = disk.file("new\(round).db")
          let primary = try NodeProcess(.primary, in: bench.directory, database: name)
          let client = try primary.connect()
          try client.run("CREATE TABLE t(id INTEGER)")
          for id in 0..<(round % 3) { try client.run("INSERT INTO t VALUES (\(id))") }
          let before = try primary.report()
          try disk.losePower()
          primary.kill()
          try disk.restorePower()
          try primary.start()
          let after = try primary.report()
          for key in ["database", "epoch"] where before[key] != after[key] {
            problems.append("round \(round): \(key) is another one")
          }
          let count = try primary.connect().integer("SELECT count(*) FROM t")
          if count != round % 3 { problems.append("round \(round): \(count) rows") }
        }
        return problems
      }
      #expect(problems == [])
    }

    /// `promote`, `demote` and `restore` are done when they say so.
    @Test(arguments: PowerLossTests.shortKinds)
    func row01_changesOfRoleAreDurable(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { try Self.changeRoles(kind, $0) }
      #expect(problems == [])
    }

    private static func changeRoles(_ kind: PowerDisk.Kind, _ bench: PowerBench) throws -> [String]
    {
      var problems: [String] = []
      @discardableResult
      func command(_ arguments: String...) throws -> String {
        let result = try Program.edgeSQL().run(arguments)
        guard result.succeeded else { throw TestFailure("\(arguments): \(result.error)") }
        return result.output
      }
      func restart(_ node: NodeProcess, _ disk: PowerDisk) throws {
        try disk.losePower()
        node.kill()
        try disk.restorePower()
        try node.start()
      }
      let disk = try bench.makeDisk(kind)
      try Ballast.make(bench.directory.file("p.db"), rows: 100)
      let former = try NodeProcess(.primary, in: bench.directory, database: "p.db")
      do {
        let replica = try NodeProcess(
          .replica, in: bench.directory, database: disk.file("r.db"),
          arguments: ["--upstream", "127.0.0.1:\(former.shipPort)"], ships: false)
        try former.note("common")
        try eventually("the replica follows") { try replica.txid() == former.txid() }
        try replica.terminate()
      }
      former.kill()
      // Nothing is started between the command and the end.
      let promoted = try command("promote", disk.file("r.db"))
      try disk.losePower()
      try disk.restorePower()
      let primary = try NodeProcess(.primary, in: bench.directory, database: disk.file("r.db"))
      let second = try primary.status("epoch")?.integer ?? 0
      if !promoted.contains("epoch \(second) begins") {
        problems.append("epoch \(second): \(promoted)")
      }
      try primary.note("in the new epoch")
      try restart(primary, disk)
      if try primary.connect().integer("SELECT count(*) FROM notes") != 2 {
        problems.append("an acknowledged note after promote is lost")
      }
      let copy = bench.directory.file("copy.db")
      try command("backup", "127.0.0.1:\(primary.listenPort)", copy)
      try primary.note("after the backup")
      try primary.terminate()
      let restored = try command("restore", copy, primary.database)
      try disk.losePower()
      try disk.restorePower()
      try primary.start()
      if try primary.connect().integer("SELECT count(*) FROM notes") != 2 {
        problems.append("what was restored is not there")
      }
      let epoch = try primary.status("epoch")?.integer ?? 0
      if !restored.contains("epoch \(epoch),") { problems.append("epoch \(epoch): \(restored)") }
      try primary.note("after restore")
      try restart(primary, disk)
      if try primary.connect().integer("SELECT count(*) FROM notes") != 3 {
        problems.append("an acknowledged note after restore is lost")
      }
      if try primary.status("epoch")?.integer != epoch { problems.append("another epoch") }
      try primary.terminate()
      try command("demote", primary.database)
      try disk.losePower()
      try disk.restorePower()
      let header = try DatabaseHeader(file: primary.database)
      if header?.stamp == nil { problems.append("demote is forgotten") }
      return problems
    }

    // MARK: Row 2, a replica

    /// Under load: it comes back as a prefix, serves nothing before it is where it was, and goes on.
    @Test(arguments: PowerLossTests.shortKinds)
    func row02_replicaComesBackAsAPrefix(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { try Self.loseReplica(kind, $0) }
      #expect(problems == [])
    }

    private static func loseReplica(
      _ kind: PowerDisk.Kind, _ bench: PowerBench
    ) throws -> [String] {
      var random = SeededGenerator(seed: 2)
      var problems: [String] = []
      let disk = try bench.makeDisk(kind)
      do {
        let connection = try Connection(path: bench.directory.file("p.db"), mode: .create)
        try connection.execute(BankLoad.schema)
      }
      let primary = try NodeProcess(.primary, in: bench.directory, database: "p.db")
      let link = try FaultProxy(to: primary.shipPort)
      let replica = try NodeProcess(
        .replica, in: bench.directory, database: disk.file("r.db"),
        arguments: ["--upstream", "127.0.0.1:\(link.port)", "--checkpoint-frames", "40"],
        ships: false)
      let load = BankLoad(port: primary.listenPort)
      var prefixes: [Int] = []
      for round in 0..<rounds {
        let writeback = try Writeback(
          ["", "-wal", "-pagemap"].map { replica.database + $0 }, seed: random.next())
        let before = try replica.txid()
        let limit = Int64.random(in: 10...150, using: &random)
        try eventually("transfers in round \(round)") { try replica.txid() >= before + limit }
        let served = try replica.txid()
        link.partition()
        try disk.losePower()
        elapse(seconds: .random(in: 0...0.3, using: &random))
        if let ended = replica.status, case .signalled(let signal) = ended, signal != SIGBUS {
          problems.append("round \(round): the replica ended with \(ended)")
        }
        replica.kill()
        try writeback.stop()
        try disk.restorePower()
        prefixes.append(try BankLoad.transfers(in: replica.database))
        try replica.start(waits: false)
        elapse(seconds: 0.5)
        if let early = try? replica.txid(), early < served {
          problems.append("round \(round): it serves \(early) after \(served)")
        }
        link.heal()
        try replica.waitUntilReady()
        let now = try replica.txid()
        if now < served { problems.append("round \(round): \(now) after \(served)") }
      }
      let transfers = try load.stop().count
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
      note(
        "\(kind.rawValue), \(rounds) losses of power of a replica: whole states of \(prefixes) "
          + "transfers of \(transfers)")
      return problems
    }

    /// In the middle of its first copy, with pages that nobody synced.
    @Test(arguments: PowerLossTests.shortKinds)
    func row02_firstCopyGoesOn(kind: PowerDisk.Kind) throws {
      let problems = try PowerLab.run { bench in
        let disk = try bench.makeDisk(kind)
        try Ballast.make(bench.directory.file("p.db"))
        let primary = try NodeProcess(.primary, in: bench.directory, database: "p.db")
        let link = try FaultProxy(to: primary.shipPort)
        let replica = try NodeProcess(
          .replica, in: bench.directory, database: disk.file("r.db"),
          arguments: ["--upstream", "127.0.0.1:\(link.port)"], ships: false, waits: false)
        var problems: [String] = []
        for part in 1...3 {
          try eventually("a part of the copy") { link.bytes(.down) > part * 4_000_000 }
          try disk.losePower()
          replica.kill()
          try disk.restorePower()
          if Files.exists(replica.database) { problems.append("half a copy has its name") }
          try primary.note("\(part)")
          try replica.start(waits: false)
        }
        try replica.waitUntilReady(.seconds(120))
        try eventually("the replica follows") { try replica.txid() == primary.txid() }
        try samePages(primary.database, replica.database)
        // It has its name, so it is whole.
        try disk.losePower()
        replica.kill()
        try disk.restorePower()
        let file = try Connection(path: replica.database, mode: .readOnly)
        if try file.query("PRAGMA integrity_check").first?.first != .text("ok") {
          problems.append("the copy is damaged")
        }
        return problems
      }
      #expect(problems == [])
    }
  }
}

/// Another program that writes to a primary's file, and does not sync its commits.
private final class ForeignWriter {
  private let process: ChildProcess

  init(to path: String, round: Int) throws {
    guard let shell = Program(named: "sqlite3") else { throw TestFailure("there is no sqlite3") }
    let script = "\(path).foreign.sql"
    // Work in between leaves room for others.
    let work =
      "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 4000) "
      + "SELECT count(*) FROM s;"
    let commits = (0..<10_000).map { "INSERT INTO notes(t) VALUES ('\(round) \($0)'); \(work)" }
    let text =
      "PRAGMA synchronous=NORMAL;\n.timeout 5000\n.bail on\n" + commits.joined(separator: "\n")
    let descriptor = open(script, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0o600)
    let nothing = open("/dev/null", O_WRONLY | O_CLOEXEC)
    defer { for open in [descriptor, nothing] where open >= 0 { close(open) } }
    unlink(script)
    let bytes = Array(text.utf8)
    guard descriptor >= 0, nothing >= 0, write(descriptor, bytes, bytes.count) == bytes.count else {
      throw TestFailure("no script for the other program")
    }
    lseek(descriptor, 0, SEEK_SET)
    process = try ChildProcess(
      shell.path, [path], input: descriptor, output: nothing, error: nothing)
  }

  func kill() { process.kill() }
}
