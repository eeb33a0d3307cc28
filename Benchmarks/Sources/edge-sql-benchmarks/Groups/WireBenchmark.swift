// What a small change costs on the wire, and what it costs that nothing changes.

import Glibc

enum WireBenchmark {
  /// The bytes that the statements change: what must travel at least.
  private static let changedBytes = 100.0
  /// What ships a frame of the WAL as it is sends: 24 bytes of header and the page.
  private static let frameBytes = 4120.0
  private static let updateBytes = 200.0, insertBytes = 220.0, idleBytes = 50.0

  static func run(_ run: Run) async throws -> GroupReport {
    let primary = try NodeProcess.primary(run.programs, run.folder.makeTable())
    let replica = try NodeProcess.replica(
      run.programs, of: primary.ship, run.folder.newPath())
    try replica.waitUntilEqual(to: primary)
    let updates = WriteLines.updates()
    let count = run.effort.scaled(1000)
    let wire = Wire(primary, replica)
    var sides = Alternation()
    let names = [("", Unit.bytes), ("", Unit.bytes)]
    let slow = try wire.load(updates, connections: 1)
    let update = sides.add(names) { try wire.measure { try slow.run(requests: count).answers } }
    let fast = try wire.load(updates, connections: 16)
    let burst = sides.add(names) {
      try wire.measure { try fast.run(depth: 16, requests: count * 10).answers }
    }
    let inserts = try wire.load(WriteLines.inserts(), connections: 1)
    let insert = sides.add(names) { try wire.measure { try inserts.run(requests: count).answers } }
    let fastInserts = try wire.load(WriteLines.inserts(), connections: 16)
    let insertBurst = sides.add(names) {
      try wire.measure { try fastInserts.run(depth: 16, requests: count * 10).answers }
    }
    let idle = sides.add([("", .bytesPerSecond), ("", .percent), ("", .percent)]) {
      try wire.idle(seconds: max(2, run.effort.slice))
    }
    let changed = sides.add("the bytes that changed", .bytes) { changedBytes }
    let frame = sides.add("a frame of the WAL", .bytes) { frameBytes }
    let measured = try await sides.run(rounds: run.effort.rounds)
    var report = GroupReport(
      name: "wire", subject: "bytes to a replica for one row of 100,000, 100 random bytes in it")
    report.figures = [
      measured.figure(
        "UPDATE, one at a time", update[1], over: changed, reach: .atMost(updateBytes)),
      measured.figure("UPDATE, one at a time", update[1], over: frame),
      measured.figure("UPDATE, at full rate", burst[1], over: changed, reach: .atMost(updateBytes)),
      measured.figure("its message alone", burst[0], over: changed),
      measured.figure(
        "INSERT, one at a time", insert[1], over: changed, reach: .atMost(insertBytes)),
      measured.figure(
        "INSERT, at full rate", insertBurst[1], over: changed, reach: .atMost(insertBytes)),
      measured.figure("its message alone", insertBurst[0], over: changed),
      measured.figure("idle, one replica", idle[0], reach: .atMost(idleBytes)),
      measured.figure("idle, CPU of the primary, of a core", idle[1]),
      measured.figure("idle, CPU of the replica, of a core", idle[2]),
    ]
    return report
  }
}

/// Counts what a primary sends to its replica.
private final class Wire {
  private let primary: NodeProcess
  private let replica: NodeProcess

  init(_ primary: NodeProcess, _ replica: NodeProcess) {
    self.primary = primary
    self.replica = replica
  }

  func load(_ lines: [String], connections: Int) throws -> Load {
    try Load(
      port: primary.line, connections: connections, requests: lines, expected: "\"changes\":1")
  }

  /// - Parameter body: gives the number of statements. Those that arrive together share a transaction.
  /// - Returns: bytes of messages, and of everything that was sent, for each statement.
  func measure(_ body: () throws -> Int) throws -> [Double] {
    let before = try counts()
    let statements = Double(try body())
    let after = try counts()
    return [Double(after[0] - before[0]) / statements, Double(after[1] - before[1]) / statements]
  }

  /// Bytes of messages, and bytes sent, once everything has arrived.
  private func counts() throws -> [Int] {
    try replica.waitUntilEqual(to: primary)
    return try ["encoded_bytes", "bytes_sent"].map(primary.number)
  }

  /// - Returns: bytes a second, and what both processes use of a core, in percent.
  func idle(seconds: Double) throws -> [Double] {
    let start = MonotonicTime.seconds
    let sent = try primary.number("bytes_sent")
    let cpu = [primary.process.cpuSeconds, replica.process.cpuSeconds]
    usleep(UInt32(seconds * 1e6))
    let used = [primary.process.cpuSeconds - cpu[0], replica.process.cpuSeconds - cpu[1]]
    let elapsed = MonotonicTime.seconds - start
    return [Double(try primary.number("bytes_sent") - sent) / elapsed]
      + used.map { $0 / elapsed * 100 }
  }
}
