// `edge-sql bench`: everything that a deployment is asked for, in one run and one table.

import ArgumentParser
import Serving

struct BenchAllCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "all",
    abstract: "Measure lag, reads and writes of a primary and a replica (the default).",
    discussion: """
      Reads are done at the replica, one at a time on each connection and 32 at a time; writes at \
      the primary, each acknowledged after its fsync, and through the replica.
      """)

  @Option(help: "The client address of the primary.") var primary: String
  @Option(help: "The client address of the replica.") var replica: String
  @Option(help: "How many rows to write for the lag.") var samples = 300
  @Option(help: "How many connections.") var connections = 16
  @Option(help: "How long each load runs.") var seconds = 3.0
  @OptionGroup var bench: BenchOptions

  private static let rows = 10_000
  private static let intervalMilliseconds = 2
  private static let waitMilliseconds = 5000
  private static let deep = 32

  func validate() throws {
    guard samples > 0 else { throw ValidationError("--samples must be at least 1") }
    guard (1...10_000).contains(connections) else {
      throw ValidationError("--connections is between 1 and 10000")
    }
    guard seconds > 0, seconds <= 86_400 else {
      throw ValidationError("--seconds is above 0 and at most 86400")
    }
  }

  /// One load, and what it is called.
  private struct Part {
    var name: String
    var depth: Int
    var result: LoadBench.Result
  }

  func run() throws {
    try reportingFailures {
      Interrupt.block()
      let client = try bench.connect(primary)
      let follower = try bench.connect(replica)
      try BenchTable.with(client, dropExisting: bench.dropExisting) {
        let lag = try LagBench(
          primary: client, replica: follower, samples: samples,
          intervalMilliseconds: Self.intervalMilliseconds,
          waitMilliseconds: Self.waitMilliseconds
        ).run()
        let parts = lag.interrupted ? [] : try loads(client, follower)
        bench.write(text(lag, parts), json(lag, parts))
        try bench.draw(
          "edge-sql: \(primary) and its replica \(replica)",
          lag.curves + parts.map { LatencyPlot.Curve(name: $0.name, times: $0.result.times) })
        if lag.lag.count == 0 { throw ExitCode(ExitStatus.failed.rawValue) }
      }
    }
  }

  private func loads(_ client: LineClient, _ follower: LineClient) throws -> [Part] {
    let token = try BenchTable.fill(client, from: samples + 1, rows: Self.rows)
    let insert = BenchTable.insert
    let reads = BenchTable.reads(from: samples + 1, rows: Self.rows)
    let plans: [(String, LineClient, Int, String?, () -> [UInt8])] = [
      ("read at the replica", follower, 1, token, reads),
      ("read at the replica, \(Self.deep) in flight", follower, Self.deep, token, reads),
      ("write at the primary", client, 1, nil, { insert }),
      ("write through the replica", follower, 1, nil, { insert }),
    ]
    var parts: [Part] = []
    for (name, node, depth, token, next) in plans {
      let result = try LoadBench(name: name, seconds: seconds).run(
        node.settings, connections: connections, depth: depth, token: token, nextRequest: next)
      parts.append(Part(name: name, depth: depth, result: result))
      if result.interrupted { break }
    }
    return parts
  }

  private func text(_ lag: LagBench.Result, _ parts: [Part]) -> String {
    var table = MeasurementTable()
    var rates = Columns(.left, .right)
    for part in parts {
      table.add(part.name, part.result.times)
      rates.add(part.name, "\(grouped(Int(part.result.perSecond.rounded()))) a second")
    }
    var text = lag.text(samples: samples)
    guard !parts.isEmpty else { return text }
    text += "\n\(connections) connections\n\n" + rates.text() + "\n" + table.text
    for part in parts {
      guard let error = part.result.firstError else { continue }
      text +=
        "\n\(part.name): \(grouped(part.result.errors)) errors; the first: "
        + "\(error.failure.message)\n"
    }
    return text
  }

  private func json(_ lag: LagBench.Result, _ parts: [Part]) -> JSONValue {
    .members([
      ("bench", .string("all")), ("lag", lag.json(samples: samples)),
      (
        "loads",
        .array(
          parts.map {
            $0.result.json(kind: $0.name, connections: connections, depth: $0.depth)
          })
      ),
    ])
  }
}
