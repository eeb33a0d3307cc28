// From the acknowledgement of a write at the primary until a replica answers a read with it, with nothing else to do and
// beside a stream of other writes.

import Glibc

enum LagBenchmark {
  /// Other writes in a second beside those that are timed, and what p50 and p99 should reach in microseconds.
  private static let loads: [(rate: Double, p50: Double, p99: Double)] = [
    (0, 300, 3000), (200, 300, 3000), (2000, 1000, 10_000),
  ]
  /// Between two samples: both nodes have gone to sleep by then.
  private static let pauseMicroseconds: UInt32 = 2000

  static func run(_ run: Run) async throws -> GroupReport {
    let effort = run.effort
    let primary = try NodeProcess.primary(run.programs, run.folder.makeTable(), http: true)
    let replica = try NodeProcess.replica(
      run.programs, of: primary.ship, run.folder.newPath(), http: true)
    try replica.waitUntilEqual(to: primary)
    let echo = try EchoProcess(.epoll, run.folder)
    let echoes = try ClientSocket(port: echo.port)
    let writer = try primary.client(), reader = try replica.client()
    var random = SeededGenerator(seed: 10)
    var sides = Alternation()
    let floor = sides.add([("TCP echo in C", .microseconds), ("TCP echo in C", .microseconds)]) {
      let line = String(repeating: "e", count: 60)
      return try samples(effort.slice) {
        let start = MonotonicTime.nanoseconds
        _ = try echoes.run(line)
        return MonotonicTime.nanoseconds - start
      }
    }
    let lags = try loads.map { load in
      let background = try Load(
        port: primary.line, connections: 4, requests: WriteLines.updates(),
        expected: "\"changes\":1")
      return sides.add([("", .microseconds), ("", .microseconds)]) {
        let measure = {
          try samples(effort.slice) {
            try visible(writer, reader, NodePair.updateLine(&random))
          }
        }
        guard load.rate > 0 else { return try measure() }
        return try background.during(depth: 64, perSecond: load.rate, measure).0
      }
    }
    let polled = try PolledPair(primary.http, replica.http)
    let ours = sides.add([("", .microseconds), ("", .microseconds)]) {
      try samples(effort.slice, polled.sample)
    }
    let peers = try run.programs.sqld.map { try PeerPair($0, run.folder) }
    let theirs = peers.map { peers in
      sides.add([("sqld", .microseconds), ("sqld", .microseconds)]) {
        try samples(effort.slice, peers.polled.sample)
      }
    }
    let measured = try await sides.run(rounds: effort.rounds)
    try replica.waitUntilEqual(to: primary)
    var report = GroupReport(
      name: "lag", subject: "a write is acknowledged → a replica answers a read with it")
    for (load, lag) in zip(loads, lags) {
      let name = load.rate == 0 ? "idle" : "\(Int(load.rate)) other writes a second"
      report.figures += [
        measured.figure("\(name), p50", lag[0], over: floor[0], reach: .atMost(load.p50)),
        measured.figure("\(name), p99", lag[1], over: floor[1], reach: .atMost(load.p99)),
      ]
    }
    report.figures += [
      measured.figure("idle, polled over HTTP, p50", ours[0], over: theirs?[0] ?? floor[0]),
      measured.figure("idle, polled over HTTP, p99", ours[1], over: theirs?[1] ?? floor[1]),
    ]
    report.notes = [
      "the read carries the token of the write, so each time holds one round trip to the replica",
      "polled: the replica is asked over HTTP, again and again, until it shows the row",
      "2 ms without work before each sample: every thread and core has gone to sleep",
    ]
    return report
  }

  /// - Parameter sample: gives nanoseconds.
  /// - Returns: p50 and p99 in microseconds.
  private static func samples(
    _ seconds: Double, _ sample: () throws -> UInt64
  ) throws -> [Double] {
    var times: [UInt64] = []
    try Timing.until(seconds) { _ in
      usleep(pauseMicroseconds)
      times.append(try sample())
    }
    return Timing.p50p99(times)
  }

  private static func visible(
    _ writer: ClientSocket, _ reader: ClientSocket, _ line: String
  ) throws -> UInt64 {
    let answer = try writer.run(line)
    let start = MonotonicTime.nanoseconds
    guard let token = answer.split(separator: "\"token\":\"").last?.split(separator: "\"").first
    else {
      throw Failure("an answer without a token: \(answer)")
    }
    let read = try reader.run(
      "{\"sql\":\"SELECT name FROM t WHERE id = 7\",\"token\":\"\(token)\",\"wait_ms\":5000,\"on_lag\":\"error\"}"
    )
    guard read.hasPrefix("{\"cols\"") else { throw Failure(read) }
    return MonotonicTime.nanoseconds - start
  }
}

/// sqld as a primary and as a replica.
private final class PeerPair {
  private let primary: SQLDProcess
  private let replica: SQLDProcess
  let polled: PolledPair

  init(_ program: String, _ folder: WorkFolder) throws {
    primary = try SQLDProcess(program, folder)
    replica = try SQLDProcess(program, folder, following: primary.grpc)
    polled = try PolledPair(primary.http, replica.http)
  }
}

/// A primary and a replica that speak Hrana: the one is written to, and the other asked until it shows that.
private final class PolledPair {
  private let primary: HTTPSocket
  private let replica: HTTPSocket
  private var count = 0
  private static let secondsMax = 10.0

  init(_ primary: Int, _ replica: Int) throws {
    self.primary = try HTTPSocket(port: primary)
    self.replica = try HTTPSocket(port: replica)
    try write("CREATE TABLE polled(id INTEGER PRIMARY KEY)")
    let end = MonotonicTime.seconds + Self.secondsMax
    while !(try answer("SELECT count(*) FROM polled")).contains("\"type\":\"ok\"") {
      guard MonotonicTime.seconds < end else { throw Failure("no table at the replica") }
      usleep(10_000)
    }
  }

  func sample() throws -> UInt64 {
    count += 1
    try write("INSERT INTO polled VALUES (\(count))")
    let start = MonotonicTime.nanoseconds
    let end = MonotonicTime.seconds + Self.secondsMax
    while !(try answer("SELECT id FROM polled WHERE id = \(count)")).contains(
      "\"value\":\"\(count)\"")
    {
      guard MonotonicTime.seconds < end else { throw Failure("row \(count) was not replicated") }
    }
    return MonotonicTime.nanoseconds - start
  }

  private func write(_ sql: String) throws {
    let text = try primary.request(HTTPText.execute(sql, nil))
    guard text.contains("\"type\":\"ok\"") else { throw Failure("\(sql): \(text)") }
  }

  private func answer(_ sql: String) throws -> String {
    try replica.request(HTTPText.execute(sql, nil))
  }
}
