// `edge-sql bench`: what a running system gives, measured from where a client stands.

import ArgumentParser
import Serving

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure the lag and the throughput of running nodes.",
    discussion: """
      Without a subcommand everything is measured: edge-sql bench --primary HOST:PORT --replica \
      HOST:PORT. On a terminal a line shows how it goes. \
      The benches make a table edge_bench and drop it when they are done, also after Ctrl-C. They \
      never touch a table of that name that was there before, unless --drop-existing is given.
      """,
    subcommands: [
      BenchAllCommand.self, BenchLagCommand.self, BenchReadCommand.self, BenchWriteCommand.self,
    ], defaultSubcommand: BenchAllCommand.self)
}

/// Options of all benches.
struct BenchOptions: ParsableArguments {
  @Flag(help: "Drop a table edge_bench that is there already.") var dropExisting = false
  @Flag(help: "Print JSON.") var json = false
  @Option(help: ArgumentHelp("Draw the times into this SVG file.", valueName: "file"))
  var plot: String?
  @OptionGroup var client: ClientOptions

  func write(_ text: @autoclosure () -> String, _ json: @autoclosure () -> JSONValue) {
    Console.output.write(self.json ? JSONDocument.text(json()) + "\n" : text())
  }

  func draw(_ title: String, _ curves: [LatencyPlot.Curve]) throws(CommandFailure) {
    guard let plot else { return }
    do {
      try TextFile.write(LatencyPlot(title: title, curves: curves).svg, to: plot)
    } catch {
      throw CommandFailure(.cannotCreate, error.description)
    }
  }

  func connect(_ address: String?) throws -> LineClient {
    var settings = try client.settings(address: address)
    settings.isInterruptible = true
    return try LineClient(settings)
  }
}

struct BenchLagCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lag",
    abstract: "Measure how long writes take to be visible at a replica.",
    discussion: """
      Writes rows on the primary one at a time. Each time counts from the primary's answer until \
      the replica has answered a read that carries the token of the write, so it holds one round \
      trip; beside it stands the time of a plain TCP echo on this machine.
      """)

  @Option(help: "The client address of the primary.") var primary: String
  @Option(help: "The client address of the replica.") var replica: String
  @Option(help: "How many rows to write.") var samples = 500
  @Option(help: "The pause between two of them, in milliseconds.") var intervalMs = 2
  @Option(help: "How long to wait for a row, in milliseconds.") var waitMs = 5000
  @OptionGroup var bench: BenchOptions

  func validate() throws {
    guard samples > 0, intervalMs >= 0, waitMs >= 0 else {
      throw ValidationError("--samples must be at least 1, and no time may be negative")
    }
  }

  func run() throws {
    try reportingFailures {
      Interrupt.block()
      let client = try bench.connect(primary)
      let lag = LagBench(
        primary: client, replica: try bench.connect(replica), samples: samples,
        intervalMilliseconds: intervalMs, waitMilliseconds: waitMs)
      let result = try BenchTable.with(client, dropExisting: bench.dropExisting) { try lag.run() }
      bench.write(result.text(samples: samples), result.json(samples: samples))
      try bench.draw("Lag of \(replica)", result.curves)
      if result.lag.count == 0 { throw ExitCode(ExitStatus.failed.rawValue) }
    }
  }
}

/// Options of the benches that put a node under load.
struct LoadOptions: ParsableArguments {
  @Option(help: "How many connections.") var connections = 16
  @Option(help: "How many requests are in flight on each connection.") var depth = 1
  @Option(help: "How long to run.") var seconds = 5.0
  @Option(help: "Run this SQL instead.") var sql: String?

  func validate() throws {
    guard (1...10_000).contains(connections), (1...10_000).contains(depth) else {
      throw ValidationError("--connections and --depth are between 1 and 10000")
    }
    guard seconds > 0, seconds <= 86_400 else {
      throw ValidationError("--seconds is above 0 and at most 86400")
    }
  }

  /// - Parameters:
  ///   - token: what every connection must see before it begins.
  ///   - nextRequest: makes the request lines, each with its line end.
  func run(
    _ kind: String, _ bench: BenchOptions, _ settings: ClientSettings, token: String?,
    nextRequest: @escaping () -> [UInt8]
  ) throws {
    let result = try LoadBench(name: kind, seconds: seconds).run(
      settings, connections: connections, depth: depth, token: token, nextRequest: nextRequest)
    bench.write(
      result.text(connections: connections, depth: depth),
      result.json(kind: kind, connections: connections, depth: depth))
    try bench.draw(
      "Load on \(settings.address)", [LatencyPlot.Curve(name: kind, times: result.times)])
    if result.times.count == 0 { throw ExitCode(ExitStatus.failed.rawValue) }
  }
}

struct BenchReadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "read", abstract: "Measure reads: one row by its key, or your own SQL.")

  @Argument(help: "The node: HOST:PORT.") var address: String?
  @OptionGroup var load: LoadOptions
  @OptionGroup var bench: BenchOptions

  private static let rows = 10_000

  func run() throws {
    try reportingFailures {
      Interrupt.block()
      let client = try bench.connect(address)
      if let sql = load.sql {
        let line = Array((RequestLine.statement(sql) + "\n").utf8)
        try load.run("read", bench, client.settings, token: nil) { line }
        return
      }
      try BenchTable.with(client, dropExisting: bench.dropExisting) {
        let token = try BenchTable.fill(client, rows: Self.rows)
        let next = BenchTable.reads(rows: Self.rows)
        try load.run("read", bench, client.settings, token: token, nextRequest: next)
      }
    }
  }
}

struct BenchWriteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "write",
    abstract: "Measure writes: inserts of one row, or your own SQL.",
    discussion: "At a replica this measures the way to the primary too.")

  @Argument(help: "The node: HOST:PORT.") var address: String?
  @OptionGroup var load: LoadOptions
  @OptionGroup var bench: BenchOptions

  func run() throws {
    try reportingFailures {
      Interrupt.block()
      let client = try bench.connect(address)
      if let sql = load.sql {
        let line = Array((RequestLine.statement(sql) + "\n").utf8)
        try load.run("write", bench, client.settings, token: nil) { line }
        return
      }
      try BenchTable.with(client, dropExisting: bench.dropExisting) {
        let line = BenchTable.insert
        try load.run("write", bench, client.settings, token: nil) { line }
      }
    }
  }
}
