// `edge-sql-benchmarks`: what each part of the engine costs, always beside what the machine itself would allow.

import ArgumentParser
import Glibc
import Serving

/// One benchmark and its name on the command line.
private struct Benchmark: Sendable {
  let name: String
  let run: @Sendable (Effort, WorkFolder) async throws -> GroupReport

  static let all = [
    Benchmark(name: "codec") { effort, _ in try await CodecBenchmark.run(effort) },
    Benchmark(name: "checksums") { effort, _ in try await ChecksumBenchmark.run(effort) },
    Benchmark(name: "commits") { try await CommitBenchmark.run($0, $1) },
    Benchmark(name: "apply") { try await ApplyBenchmark.run($0, $1) },
    Benchmark(name: "reads") { try await ReadBenchmark.run($0, $1) },
    Benchmark(name: "writes") { try await WriteBenchmark.run($0, $1) },
    Benchmark(name: "lag") { try await LagBenchmark.run($0, $1) },
    Benchmark(name: "wire") { try await WireBenchmark.run($0, $1) },
    Benchmark(name: "catch-up") { try await CatchUpBenchmark.run($0, $1) },
  ]
}

@main
struct BenchmarkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge-sql-benchmarks",
    abstract: "Measure edge-sql beside the floors of this machine, as ratios.",
    discussion: """
      Without names everything is measured: \(Benchmark.all.map(\.name).joined(separator: ", ")).
      ↑ means that a higher ratio is better, ↓ that a lower one is. Databases are made in a \
      folder of their own below TMPDIR or the current directory, and removed at the end.
      """)

  @Option(help: "How long each side is measured, all rounds together.")
  var seconds = 3.0

  @Option(help: "How often the sides alternate; at least 5.")
  var rounds = 5

  @Flag(help: "Write one line of JSON with the values of every round.")
  var json = false

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
    let machine = Machine(folder: folder.path)
    var reports: [GroupReport] = []
    var failed: [String] = []
    for benchmark in Benchmark.all where names.isEmpty || names.contains(benchmark.name) {
      do {
        let report = try await benchmark.run(effort, folder)
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
