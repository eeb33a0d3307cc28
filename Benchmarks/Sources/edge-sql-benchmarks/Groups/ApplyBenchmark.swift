// How fast a replica can make transactions visible, beside SQLite that executes them.

import Store
import WALShip

enum ApplyBenchmark {
  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    var report = GroupReport(
      name: "apply",
      subject: "transactions of one page by one thread, no fsync; checkpoints are not counted")
    let stock = try FloorDatabase(wal: folder.makeTable(), synchronous: "OFF")
    try stock.execute("PRAGMA wal_autocheckpoint=0")
    let replica = try InjectedReplica(folder)
    var frames = 0
    var sides = Alternation()
    let floor = sides.add("stock UPDATE, synchronous=OFF", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 500) {
        frames += 500
        guard frames > InjectedReplica.logFramesMax else { return }
        try stock.execute("PRAGMA wal_checkpoint(RESTART)")
        frames = 0
      } pass: {
        try stock.update(count: 500)
      }
    }
    let single = sides.add("injected", .perSecond) { try replica.measure(effort, perPublish: 1) }
    let grouped = sides.add("injected", .perSecond) { try replica.measure(effort, perPublish: 16) }
    let measured = try await sides.run(rounds: effort.rounds)
    report.figures = [
      measured.figure("inject, one transaction per publish", single, over: floor),
      measured.figure("inject, 16 transactions per publish", grouped, over: floor),
    ]
    return report
  }
}

/// A replica's database without an upstream.
private final class InjectedReplica {
  static let logFramesMax = 8000

  private let database: ReplicaDatabase
  private let pages: [[UInt8]]
  private var position: Position
  private var random = SeededGenerator(seed: 16)

  init(_ folder: WorkFolder) throws {
    let source = try FloorDatabase(folder.makeTable())
    try source.execute("PRAGMA journal_mode=WAL")
    let path = folder.newPath()
    guard let pageSize = PageSize(4096) else { throw Failure("no page size") }
    let id = DatabaseID(high: 1 << 40, low: 1)
    let history = EpochHistory(current: Epoch(1))
    let copy = try ReplicaCopy(
      beginning: path, identity: PageMapIdentity(database: id, pageSize: pageSize),
      history: history)
    pages = try source.withPages { bytes in
      stride(from: 0, to: bytes.count, by: pageSize.bytes).map {
        Array(bytes[$0..<$0 + pageSize.bytes])
      }
    }
    for (index, page) in pages.enumerated() {
      try page.withUnsafeBytes { try copy.write(Pgno(UInt32(index + 1)), $0, txid: TXID(1)) }
    }
    position = Position(
      database: id, epoch: Epoch(1), txid: TXID(1), checksum: copy.map.live.checksum)
    let isWhole = try copy.finish(at: position, history: history, pageCount: UInt32(pages.count))
    guard isWhole, let header = try ReplicaDatabase.inspect(path) else {
      throw Failure("the replica's file could not be made")
    }
    database = try ReplicaDatabase(path: path, header: header)
    try database.recoverMap()
  }

  func measure(_ effort: Effort, perPublish: Int) throws -> Double {
    let publishes = 512 / perPublish
    return try Timing.callsPerSecond(
      seconds: effort.slice, calls: publishes * perPublish, between: checkpoint
    ) {
      for _ in 0..<publishes {
        for _ in 0..<perPublish { try append() }
        try database.injector.publish(pageCount: UInt32(pages.count), position: position)
      }
    }
  }

  private func append() throws {
    let index = Int.random(in: 1..<pages.count, using: &random)
    position.txid = position.txid.next
    try pages[index].withUnsafeBytes {
      try database.injector.append(Pgno(UInt32(index + 1)), $0)
    }
  }

  private func checkpoint() throws {
    guard database.injector.frameCount > Self.logFramesMax else { return }
    guard try database.copyLog() != nil, try database.restartLog(fileFramesMax: .max) else {
      throw Failure("the replica's WAL could not be started anew")
    }
  }
}
