// Hrana over HTTP: point SELECTs and INSERTs, beside sqld where it is on the machine, and beside an echo.

enum HTTPBenchmark {
  private static let connections = 16
  private static let select = "SELECT name FROM t WHERE id = ?"
  private static let insert = "INSERT INTO t(v) VALUES (?)"

  private struct Peer {
    var port: Int
    var process: ChildProcess
    var name: String
  }

  static func run(_ run: Run) async throws -> GroupReport {
    let node = try NodeProcess.primary(
      run.programs, run.folder.makeTable(), ship: nil, http: true)
    let edge = Peer(port: node.http, process: node.process, name: "edge-sql")
    var peer: Peer?
    var sqld: SQLDProcess?
    if let program = run.programs.sqld {
      let started = try SQLDProcess(program, run.folder)
      try fill(started.http)
      peer = Peer(port: started.http, process: started.process, name: "sqld")
      sqld = started
    }
    let nio = try EchoProcess(.nio, run.folder)
    var sides = Alternation()
    let reads = try add(&sides, edge, reads: true, run.effort)
    let writes = try add(&sides, edge, reads: false, run.effort)
    let echo = try add(
      &sides, Peer(port: nio.port, process: nio.process, name: "NIO echo of the request"),
      reads: nil, run.effort)
    let theirReads = try peer.map { try add(&sides, $0, reads: true, run.effort) }
    let theirWrites = try peer.map { try add(&sides, $0, reads: false, run.effort) }
    let measured = try await sides.run(rounds: run.effort.rounds)
    var report = GroupReport(
      name: "http", subject: "POST /v2/pipeline with one statement and close, 16 connections")
    report.figures = [
      measured.figure("SELECT by key", reads.rate, over: echo.rate),
      measured.figure("CPU for each", reads.cpu, over: echo.cpu),
    ]
    if let theirReads, let theirWrites {
      report.figures += [
        measured.figure(
          "SELECT by key", reads.rate, over: theirReads.rate, reach: .ratioAtLeast(10)),
        measured.figure(
          "CPU for each", reads.cpu, over: theirReads.cpu, reach: .ratioAtMost(1.0 / 15)),
        measured.figure("p99", reads.p99, over: theirReads.p99),
        measured.figure(
          "INSERT, fsynced here", writes.rate, over: theirWrites.rate, reach: .ratioAtLeast(10)),
        measured.figure("CPU for each", writes.cpu, over: theirWrites.cpu),
        measured.figure("p99", writes.p99, over: theirWrites.p99),
      ]
      report.notes = ["sqld acknowledges without an fsync; edge-sql after it"]
    } else {
      report.figures.append(measured.figure("INSERT, fsynced", writes.rate, over: echo.rate))
      report.notes = ["sqld is not on this machine (--sqld)"]
    }
    _ = sqld
    return report
  }

  /// - Parameter reads: nil for an echo, which sends back what it gets.
  private static func add(
    _ sides: inout Alternation, _ peer: Peer, reads: Bool?, _ effort: Effort
  ) throws -> ReadBenchmark.Keys {
    let load =
      reads == nil
      ? try Load(
        port: peer.port, connections: connections, http: true, requests: requests(.select),
        expected: "")
      : try Load(
        port: peer.port, connections: connections, http: true,
        requests: requests(reads == true ? .select : .insert), expected: "\"type\":\"ok\"")
    let unit = peer.name
    let keys = sides.add(
      [(unit, .perSecond), (unit, .microseconds), (unit, .microseconds), (unit, .microseconds)]
    ) {
      let result = try load.run(seconds: effort.slice, server: peer.process)
      return [result.perSecond] + result.p50p99 + [result.serverMicroseconds]
    }
    return ReadBenchmark.Keys(rate: keys[0], p50: keys[1], p99: keys[2], cpu: keys[3])
  }

  private enum Kind { case select, insert }

  private static func requests(_ kind: Kind) -> [String] {
    var random = SeededGenerator(seed: 17)
    return (0..<512).map { _ in
      switch kind {
      case .select:
        let id = UInt32.random(in: 1...WorkFolder.rows, using: &random)
        return HTTPText.execute(select, "{\"type\":\"integer\",\"value\":\"\(id)\"}")
      case .insert:
        let value = Base64Text.of(SamplePages.noise(&random, 100))
        return HTTPText.execute(insert, "{\"type\":\"blob\",\"base64\":\"\(value)\"}")
      }
    }
  }

  /// The usual table, in sqld.
  private static func fill(_ port: Int) throws {
    let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v BLOB)"
    let rows =
      "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT \(WorkFolder.rows)) "
      + "INSERT INTO t SELECT i, printf('row %08d', i), randomblob(100) FROM s"
    for sql in [create, rows] {
      let load = try Load(
        port: port, connections: 1, http: true, requests: [HTTPText.execute(sql, nil)],
        expected: "\"type\":\"ok\"")
      _ = try load.run(requests: 1)
    }
  }
}

/// Requests as Turso's clients write them.
enum HTTPText {
  /// - Parameter argument: a value of Hrana.
  static func execute(_ sql: String, _ argument: String?) -> String {
    let args = argument.map { ",\"args\":[\($0)]" } ?? ""
    let body =
      "{\"baton\":null,\"requests\":[{\"type\":\"execute\",\"stmt\":{\"sql\":\"\(sql)\"\(args)}},"
      + "{\"type\":\"close\"}]}"
    return "POST /v2/pipeline HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
  }
}
