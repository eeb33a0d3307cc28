// Point SELECTs: in the process, over the line protocol, and what a socket alone would allow.

import Primary
import Store

enum ReadBenchmark {
  private static let connections = 16
  private static let tapeLines = 4096
  private static let sql = "SELECT name FROM t WHERE id = ?"

  static func run(_ effort: Effort, _ folder: WorkFolder) async throws -> GroupReport {
    let path = try folder.makeTable()
    let primary = try await Nodes.primary(path)
    let echo = try await EchoServer()
    do {
      let report = try await measure(effort, path, primary, echo)
      try await echo.stop()
      await primary.stop()
      return report
    } catch {
      try? await echo.stop()
      await primary.stop()
      throw error
    }
  }

  private static func measure(
    _ effort: Effort, _ path: String, _ primary: PrimaryService, _ echo: EchoServer
  ) async throws -> GroupReport {
    let port = primary.listenAddress?.port ?? 0
    let many = try client(port, connections), one = try client(port, 1)
    let manyEchoes = try client(echo.port, connections, expected: "")
    let oneEcho = try client(echo.port, 1, expected: "")
    let stock = try FloorDatabase(path)
    let prepared = try PreparedReads(path)
    var sides = Alternation()
    let floor = sides.add("prepared SELECT through C", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 1000) {
        try stock.select(count: 1000)
      }
    }
    let direct = sides.add("prepared SELECT, Connection", .perSecond) {
      try Timing.callsPerSecond(seconds: effort.slice, calls: 1000) {
        try prepared.run(count: 1000)
      }
    }
    let deep = sides.add("line protocol", .perSecond) {
      try many.run(until: .seconds(effort.slice), inFlight: 32).perSecond
    }
    let deepEcho = sides.add("NIO echo, 32 in flight", .perSecond) {
      try manyEchoes.run(until: .seconds(effort.slice), inFlight: 32).perSecond
    }
    let single = sides.add("line protocol", .perSecond) {
      try many.run(until: .seconds(effort.slice), inFlight: 1).perSecond
    }
    let singleEcho = sides.add("NIO echo", .perSecond) {
      try manyEchoes.run(until: .seconds(effort.slice), inFlight: 1).perSecond
    }
    let latency = sides.add([("line protocol", .microseconds), ("", .microseconds)]) {
      Timing.p50p99(try one.run(until: .seconds(effort.slice), inFlight: 1).times)
    }
    let echoLatency = sides.add([("NIO echo", .microseconds), ("NIO echo", .microseconds)]) {
      Timing.p50p99(try oneEcho.run(until: .seconds(effort.slice), inFlight: 1).times)
    }
    let measured = try await sides.run(rounds: effort.rounds)
    var report = GroupReport(
      name: "reads", subject: "SELECT of one row in 100,000 by its key, autocommit")
    report.figures = [
      measured.figure("in process, one thread", direct, over: floor),
      measured.figure("16 connections, 32 in flight each", deep, over: direct),
      measured.figure("16 connections, 32 in flight each", deep, over: deepEcho),
      measured.figure("16 connections, one at a time", single, over: singleEcho),
      measured.figure("1 connection, one at a time, p50", latency[0], over: echoLatency[0]),
      measured.figure("1 connection, one at a time, p99", latency[1], over: echoLatency[1]),
    ]
    report.notes = [
      "node, echo server and their client share this process and its cores; the client is one thread"
    ]
    return report
  }

  private static func client(
    _ port: Int, _ connections: Int, expected: String = "{\"cols\""
  ) throws -> LoadClient {
    var random = SeededGenerator(seed: 7)
    let tapes = (0..<connections).map { _ in
      RequestTape(lines: tapeLines) { _ in
        "[\"\(sql)\",\(UInt32.random(in: 1...WorkFolder.rows, using: &random))]"
      }
    }
    return try LoadClient(port: port, expected: expected, tapes: tapes)
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
