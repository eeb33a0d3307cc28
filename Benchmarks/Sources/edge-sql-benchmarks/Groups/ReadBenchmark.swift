// Point SELECTs: in the process, over the line protocol, and what a socket alone would allow.

import Store

enum ReadBenchmark {
  private static let sql = "SELECT name FROM t WHERE id = ?"
  /// What the issue of this project asks for: one request's time over an echo's.
  private static let overheadMicroseconds = 25.0

  static func run(_ run: Run) async throws -> GroupReport {
    let path = try run.folder.makeTable()
    let node = try NodeProcess.primary(run.programs, path, ship: nil)
    let nio = try EchoProcess(.nio, run.folder), epoll = try EchoProcess(.epoll, run.folder)
    let effort = run.effort
    let stock = try FloorDatabase(path)
    let prepared = try PreparedReads(path)
    var sides = Alternation()
    let floor = sides.add("one thread's prepared SELECTs, C", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 1000) {
        try stock.select(count: 1000)
      }
    }
    let direct = sides.add("Connection, in process", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 1000) {
        try prepared.run(count: 1000)
      }
    }
    let deep = try add(&sides, "line protocol", node.line, node.process, 16, depth: 32, effort)
    let deepEcho = try add(&sides, "NIO echo", nio.port, nio.process, 16, depth: 32, effort)
    let single = try add(&sides, "line protocol", node.line, node.process, 16, depth: 1, effort)
    let singleEcho = try add(&sides, "NIO echo", nio.port, nio.process, 16, depth: 1, effort)
    let one = try add(&sides, "line protocol", node.line, node.process, 1, depth: 1, effort)
    let oneNIO = try add(&sides, "NIO echo", nio.port, nio.process, 1, depth: 1, effort)
    let oneEcho = try add(&sides, "TCP echo in C", epoll.port, epoll.process, 1, depth: 1, effort)
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "reads", subject: "SELECT of one row in 100,000 by its key, autocommit")
    report.figures = [
      measured.figure("in process, one thread", direct, over: floor),
      measured.figure("16 connections × 32", deep.rate, over: floor, reach: .ratioAtLeast(1)),
      measured.figure("16 connections × 32", deep.rate, over: deepEcho.rate),
      measured.figure("CPU for each", deep.cpu, over: deepEcho.cpu),
      measured.figure(
        "16 connections × 1", single.rate, over: singleEcho.rate, reach: .ratioAtLeast(0.6)),
      measured.figure("CPU for each", single.cpu, over: singleEcho.cpu),
      measured.figure(
        "1 × 1, p50", one.p50, over: oneEcho.p50, reach: .aboveFloorAtMost(overheadMicroseconds)),
      measured.figure("1 × 1, p50", one.p50, over: oneNIO.p50),
      measured.figure("1 × 1, p99", one.p99, over: oneEcho.p99),
      measured.figure("CPU for each", one.cpu, over: oneNIO.cpu),
    ]
    report.notes = [
      "CPU: of the server's process, for one request; its client is another process with one thread on the same cores"
    ]
    return report
  }

  struct Keys {
    var rate: Alternation.Key, p50: Alternation.Key, p99: Alternation.Key, cpu: Alternation.Key
  }

  /// A side that asks one server, which answers with rows or sends back what it gets.
  private static func add(
    _ sides: inout Alternation, _ name: String, _ port: Int, _ server: ChildProcess,
    _ connections: Int, depth: Int, _ effort: Effort
  ) throws -> Keys {
    let load = try Load(
      port: port, connections: connections, requests: requests(), expected: "")
    let keys = sides.add(
      [(name, .perSecond), (name, .microseconds), (name, .microseconds), (name, .microseconds)]
    ) {
      let result = try load.run(depth: depth, seconds: effort.slice, server: server)
      return [result.perSecond] + result.p50p99 + [result.serverMicroseconds]
    }
    return Keys(rate: keys[0], p50: keys[1], p99: keys[2], cpu: keys[3])
  }

  /// Lines of the line protocol, each for another row.
  static func requests(count: Int = 4096) -> [String] {
    var random = SeededGenerator(seed: 7)
    return (0..<count).map { _ in
      "[\"\(sql)\",\(UInt32.random(in: 1...WorkFolder.rows, using: &random))]\n"
    }
  }

  /// The same through the connection type that the nodes use.
  private final class PreparedReads {
    private let connection: Connection
    private let statement: Statement
    private var random = SeededGenerator(seed: 8)

    init(_ path: String) throws {
      connection = try Connection(path: path, mode: .readOnly)
      statement = try connection.prepare(sql)
    }

    func run(count: Int) throws {
      for _ in 0..<count {
        let id = Int64.random(in: 1...Int64(WorkFolder.rows), using: &random)
        try statement.bind(.integer(id), at: 1)
        guard try statement.step(), statement.columnType(0) == .text else {
          throw Failure("row \(id) is not there")
        }
        statement.reset()
      }
    }
  }
}
