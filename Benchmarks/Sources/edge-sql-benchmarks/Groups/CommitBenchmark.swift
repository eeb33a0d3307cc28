// What capture adds to a commit: one-row transactions on a primary's database beside the same on stock SQLite.

import Store
import WALShip

enum CommitBenchmark {
  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    var report = GroupReport(
      name: "commits",
      subject: "UPDATE of one row in 100,000 by one thread; checkpoints are not counted")
    report.notes = [
      "edge-sql: captured, checksummed, encoded for the wire and noted in the page map after each commit"
    ]
    var sides = Alternation()
    var keys: [(String, edge: Alternation.Key, floor: Alternation.Key)] = []
    for synchronous in ["FULL", "NORMAL"] {
      let stock = try StockCommits(folder, synchronous)
      let captured = try CapturedCommits(folder, synchronous)
      let calls = synchronous == "FULL" ? 20 : 500
      let floor = sides.add("stock SQLite", .perSecond) { try stock.measure(effort, calls: calls) }
      let edge = sides.add("with capture", .perSecond) {
        try captured.measure(effort, calls: calls)
      }
      keys.append((synchronous, edge, floor))
    }
    let measured = try await sides.run(rounds: effort.rounds)
    for (synchronous, edge, floor) in keys {
      report.figures.append(
        measured.figure("commits, synchronous=\(synchronous)", edge, over: floor))
    }
    return report
  }
}

/// Frames after which the WAL is copied into the file, with the clock stopped. Both WALs have been that long before
/// the first round: an fsync of a file that grows takes longer than one of a file that is written over.
private let logFramesMax = 8000

private final class StockCommits {
  private let database: FloorDatabase
  private var frames = 0

  init(_ folder: WorkFolder, _ synchronous: String) throws {
    database = try FloorDatabase(wal: folder.makeTable(), synchronous: "OFF")
    try database.execute("PRAGMA wal_autocheckpoint=0")
    try database.update(count: logFramesMax + 1)
    try database.execute("PRAGMA wal_checkpoint(RESTART); PRAGMA synchronous=\(synchronous)")
  }

  func measure(_ effort: Effort, calls: Int) throws -> Double {
    try Timing.callsPerSecond(seconds: effort.slice, calls: calls) {
      frames += calls
      guard frames > logFramesMax else { return }
      try database.execute("PRAGMA wal_checkpoint(RESTART)")
      frames = 0
    } pass: {
      try database.update(count: calls)
    }
  }
}

private final class CapturedCommits {
  private let database: PrimaryDatabase
  private let update: Statement
  private var random = SeededGenerator(seed: 3)
  /// Noise, but for a number that makes each value new: SQLite writes no page for a row that stays as it was.
  private var bytes: [UInt8]
  private var shippedBytes = 0

  init(_ folder: WorkFolder, _ synchronous: String) throws {
    bytes = SamplePages.noise(&random, 100)
    database = try PrimaryDatabase(path: folder.makeTable())
    try database.connection.execute("PRAGMA synchronous=OFF")
    update = try database.connection.prepare("UPDATE t SET v = ? WHERE id = ?")
    database.onCapture = { [unowned self] in shippedBytes += $0.body?.readableBytes ?? 0 }
    for _ in 0...logFramesMax { try commit() }
    try checkpoint()
    try database.connection.execute("PRAGMA synchronous=\(synchronous)")
  }

  func measure(_ effort: Effort, calls: Int) throws -> Double {
    try Timing.callsPerSecond(seconds: effort.slice, calls: calls, between: checkpoint) {
      for _ in 0..<calls { try commit() }
      guard shippedBytes > 0 else { throw Failure("nothing was captured") }
    }
  }

  private func commit() throws {
    let number = random.next()
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: number, as: UInt64.self) }
    try update.bind(.blob(bytes), at: 1)
    let id = Int64.random(in: 1...Int64(WorkFolder.rows), using: &random)
    try update.bind(.integer(id), at: 2)
    _ = try update.step()
    update.reset()
    guard let frames = database.connection.takeCommittedFrames() else {
      throw Failure("the commit wrote no frames")
    }
    try database.captureDurable(through: frames)
  }

  private func checkpoint() throws {
    guard database.logState.frames > logFramesMax else { return }
    _ = try database.checkpointer.run { _ in database.map.live }
  }
}
