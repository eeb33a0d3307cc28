// A replica that was away while 20,000 rows changed: how much it gets when it comes back, and how soon it is equal.

import Glibc
import Primary
import Store
import WALShip

enum CatchUpBenchmark {
  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    try await NodePair.with(folder) { try await measure(effort, folder, $0) }
  }

  private static func measure(
    _ effort: Effort, _ folder: WorkFolder, _ pair: NodePair
  ) async throws -> GroupReport {
    let round = Round(missed: effort.scaled(20_000), pair: pair, path: folder.newPath())
    // The floor takes the very pages that the round changed, so the two belong together as one side.
    let numbers: [(String, Unit)] = [
      ("sent", .bytes), ("LZ4 of the changed pages", .bytes), ("equal again", .seconds),
      ("LZ4, socket, file", .seconds), ("changed pages", .bytes),
    ]
    var sides = Alternation()
    let live = sides.add(numbers) { try await round.run(restartsPrimary: false) }
    let pages = sides.add(numbers) { try await round.run(restartsPrimary: true) }
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "catch-up",
      subject: "\(round.missed) one-row updates missed, in a table of 100,000 rows")
    report.figures = [
      measured.figure("bytes sent, from memory", live[0], over: live[1]),
      measured.figure("from start to equal, from memory", live[2], over: live[3]),
      measured.figure("bytes sent, by page map", pages[0], over: pages[1]),
      measured.figure("from start to equal, by page map", pages[2], over: pages[3]),
    ]
    report.notes = [
      "from memory: the primary still has the transactions; by page map: it was started anew meanwhile",
      "\(Int(measured[live[4]].spread.median)) distinct pages changed; the time includes opening the replica's file",
      "the floor of the time: one thread compresses those pages into a socket, another writes what it gets to a file",
    ]
    return report
  }
}

/// One absence of the replica and its return.
private final class Round {
  let missed: Int
  private let pair: NodePair
  private let path: String
  private var random = SeededGenerator(seed: 12)

  init(missed: Int, pair: NodePair, path: String) {
    self.missed = missed
    self.pair = pair
    self.path = path
  }

  func run(restartsPrimary: Bool) async throws -> [Double] {
    let before = pair.primary.tracker.position.txid
    await pair.stopReplica()
    try update()
    let pages = try changedPages(since: before)
    if restartsPrimary {
      await pair.stopPrimary()
      try await pair.startPrimary()
    }
    let floorStart = monotonicNanoseconds()
    let floorBytes = try Transfer(path: path).run(pages)
    let start = monotonicNanoseconds()
    try await pair.startReplica()
    try pair.waitUntilEqual()
    let end = monotonicNanoseconds()
    return [
      Double(try pair.bytesSent()), Double(floorBytes), Double(end - start) / 1e9,
      Double(start - floorStart) / 1e9, Double(pages.count),
    ]
  }

  /// New rows in each round: an update that changes nothing writes no page.
  private func update() throws {
    let tapes = (0..<16).map { _ in
      RequestTape(lines: (missed + 15) / 16) { _ in NodePair.updateLine(&random) }
    }
    let load = try LoadClient(
      port: pair.primary.listenAddress?.port ?? 0, expected: "{\"changes\":1", tapes: tapes)
    _ = try load.run(until: .requests(missed), inFlight: 32)
  }

  /// The pages that the page map says were changed after a transaction.
  private func changedPages(since txid: TXID) throws -> [[UInt8]] {
    let map = try PageMapFile(opening: PrimaryDatabase.pageMapPath(of: pair.primaryPath))
    let entries = map.entries(from: Pgno(1), count: Int(map.live.pageCount))
    let pageBytes = map.identity.pageSize.bytes
    return try FloorDatabase(pair.primaryPath).withPages { bytes in
      entries.indices.filter { entries[$0].txid > txid }.map { index in
        Array(bytes[index * pageBytes..<(index + 1) * pageBytes])
      }
    }
  }
}

/// The least that a catch-up could be.
private final class Transfer {
  private let path: String
  private let echo: (descriptor: Int32, port: Int)

  init(path: String) throws {
    self.path = path
    echo = try Self.listen()
  }

  deinit { close(echo.descriptor) }

  /// - Returns: the bytes that went over the socket.
  func run(_ pages: [[UInt8]]) throws -> Int {
    guard let pageSize = PageSize(4096) else { throw Failure("no page size") }
    let sender = try ClientSocket(port: echo.port)
    let receiver = accept(echo.descriptor, nil, nil)
    let file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0o600)
    guard receiver >= 0, file >= 0 else { throw Failure("no socket or file for the floor") }
    let thread = DatabaseThread()
    thread.submit {
      var chunk = [UInt8](repeating: 0, count: 1 << 18)
      while true {
        let count = recv(receiver, &chunk, chunk.count, 0)
        guard count > 0, write(file, &chunk, count) == count else { break }
      }
      close(receiver)
      close(file)
    }
    var encoder = PageEncoder(pageSize: pageSize)
    var message: [UInt8] = []
    var sent = 0
    for page in pages {
      page.withUnsafeBytes { message += encoder.encode(page: $0, base: nil).payload }
      guard message.count > 1 << 17 else { continue }
      try message.withUnsafeBytes { try sender.send($0) }
      sent += message.count
      message.removeAll(keepingCapacity: true)
    }
    try message.withUnsafeBytes { try sender.send($0) }
    sent += message.count
    shutdown(sender.descriptor, Int32(SHUT_WR))
    try thread.sync {}
    thread.stop()
    return sent
  }

  private static func listen() throws -> (descriptor: Int32, port: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) | Glibc.listen(descriptor, 1)
          | getsockname(descriptor, $0, &size)
      }
    }
    guard descriptor >= 0, code == 0 else { throw Failure("no port to listen on") }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }
}
