// Runs simulated histories, each as its seed says, and tells which of them broke a promise.

import ArgumentParser
import EdgeTesting
import Glibc
import Simulation
import Synchronization

@main
struct EdgeSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge-sim",
    abstract: "Simulates clusters of edge-sql under faults, and checks that every promise holds.",
    discussion: "docs/TESTING.md says what is simulated, and what is checked.",
    subcommands: [Seeds.self, One.self, Nth.self], defaultSubcommand: Seeds.self)
}

/// Where the files of simulated disks lie: in memory.
func makeFolder() -> String {
  let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
  return "\(parent)/edge-sim-\(getpid())"
}

/// Many seeds, in processes of their own that take a few each.
struct Seeds: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run many seeds (the default).")

  @Option(help: "How many seeds to run.")
  var seeds: UInt64 = 500
  @Option(help: "The first seed.")
  var from: UInt64 = 1
  @Option(help: "Processes at a time.")
  var jobs = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
  @ArgumentParser.Flag(help: "End with the first violation.")
  var stopAtFirst = false

  /// What a node that was killed had open stays open until the process ends, so it runs few.
  private static let seedsPerProcess: UInt64 = 10

  func run() throws {
    let report = try runInProcesses()
    for story in report.stories { print(story) }
    print(
      "\(report.seeds) seeds, \(report.transactions) transactions, \(report.checks) checks, "
        + "\(report.crashes) crashes: \(report.stories.count) violations")
    if !report.stories.isEmpty { throw ExitCode(1) }
  }

  struct Report {
    var seeds = 0
    var transactions = 0
    var checks = 0
    var crashes = 0
    var stories: [String] = []
  }

  private struct Progress {
    var next: UInt64
    var report = Report()
  }

  private func runInProcesses() throws -> Report {
    let program = Program(path: CommandLine.programPath)
    let progress = Mutex(Progress(next: from))
    let end = from + seeds
    let stopAtFirst = stopAtFirst
    let workers = (0..<max(1, jobs)).map { _ in
      BackgroundThread {
        while true {
          let first: UInt64? = progress.withLock { progress in
            guard progress.next < end else { return nil }
            if stopAtFirst, !progress.report.stories.isEmpty { return nil }
            defer { progress.next += Self.seedsPerProcess }
            return progress.next
          }
          guard let first else { return }
          let count = min(Self.seedsPerProcess, end - first)
          let result = try program.run(
            ["one", "\(first)", "--count", "\(count)"],
            environment: ["SWIFT_DETERMINISTIC_HASHING": "1"], deadline: .seconds(1200))
          progress.withLock { Self.take(result, first: first, count: count, into: &$0.report) }
        }
      }
    }
    for worker in workers { try worker.join() }
    return progress.withLock { $0.report }
  }

  private static func take(
    _ result: Program.Result, first: UInt64, count: UInt64, into report: inout Report
  ) {
    var story: [Substring] = []
    var ended: UInt64 = 0
    for line in result.output.split(separator: "\n") {
      guard line.hasPrefix("= ") else {
        story.append(line)
        continue
      }
      let numbers = line.split(separator: " ").compactMap { Int($0) }
      ended += 1
      report.seeds += 1
      report.transactions += numbers[1]
      report.checks += numbers[2]
      report.crashes += numbers[3]
      if line.hasSuffix("violation") { report.stories.append(story.joined(separator: "\n")) }
      story = []
    }
    guard ended < count else { return }
    report.stories.append(
      story.joined(separator: "\n") + result.error.suffix(4000)
        + "\nVIOLATION: the process ended in the middle of seed \(first + ended): \(result.status)")
  }
}

/// One seed, or a few after each other.
struct One: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "one", abstract: "Run one seed again, and tell what happened.")

  @Argument(help: "The seed.")
  var seed: UInt64
  @Option(help: "Run so many seeds from there on.")
  var count: UInt64 = 1
  @ArgumentParser.Flag(help: "Tell everything, the logs of the nodes included.")
  var verbose = false

  func run() throws {
    try requireDeterminism()
    let folder = makeFolder()
    defer { Files.removeAll(folder) }
    var failures = 0
    for seed in seed..<seed + count {
      let outcome = Simulation.run(seed: seed, folder: folder, prints: verbose)
      if !verbose { for line in outcome.story { print(line) } }
      let counts = outcome.counts
      if let violation = outcome.violation {
        failures += 1
        print("seed \(seed): \(outcome.conditions)")
        print("VIOLATION: \(violation)")
        print("again with: make sim SEED=\(seed)")
      }
      print(
        "= \(seed) \(counts.transactions) \(counts.checks) \(counts.crashes) "
          + "\(counts.answers) \(outcome.traceHash) "
          + (outcome.violation == nil ? "well" : "violation"))
    }
    if failures > 0 { throw ExitCode(1) }
  }
}

/// Each disk operation failing once.
struct Nth: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a small workload with the n-th disk operation failing, for every n.")

  @Argument(help: "Whose disk: primary or replica.")
  var target: NthCall.Target
  @ArgumentParser.Flag(help: "The disk is full, instead of failing.")
  var full = false
  @Option(help: "The first n.")
  var from = 1
  @Option(help: "Take every so many.")
  var stride = 1
  @Option(help: "The last n.")
  var to = 100_000
  @ArgumentParser.Flag(help: "Tell everything.")
  var verbose = false

  func run() throws {
    try requireDeterminism()
    let folder = makeFolder()
    defer { Files.removeAll(folder) }
    var failed: [String: Int] = [:]
    var violations = 0
    var number = from
    while number <= to {
      let outcome = NthCall.run(
        target, number: number, isDiskFull: full, folder: folder, prints: verbose)
      if let violation = outcome.violation {
        violations += 1
        if !verbose { for line in outcome.story { print(line) } }
        print("VIOLATION with call \(number): \(violation)")
        print(
          "again with: edge-sim nth \(target.rawValue)\(full ? " --full" : "") "
            + "--from \(number) --to \(number) --verbose")
      }
      guard let call = outcome.call else { break }
      failed[call, default: 0] += 1
      number += stride
      // What a run leaves open stays so until the process ends.
      if failed.values.reduce(0, +) >= Self.runsPerProcess, violations == 0 {
        print("\(target.rawValue): calls \(from) to \(number - stride) may fail")
        Files.removeAll(folder)
        try goOn(from: number)
      }
    }
    let kinds = failed.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
    print(
      "\(target.rawValue): calls \(from) to \(number): \(kinds.joined(separator: ", ")); "
        + "\(violations) violations")
    if violations > 0 { throw ExitCode(1) }
  }

  private static let runsPerProcess = 100

  /// Goes on in a new process.
  private func goOn(from number: Int) throws {
    var arguments = [
      "edge-sim", "nth", target.rawValue, "--from", "\(number)", "--stride", "\(stride)", "--to",
      "\(to)",
    ]
    if full { arguments.append("--full") }
    execv(CommandLine.programPath, arguments.map { strdup($0) } + [nil])
    throw ValidationError("cannot start \(CommandLine.programPath) again")
  }
}

extension NthCall.Target: ExpressibleByArgument {}

/// Sets of Swift have the same order in each run only when the process was started so.
private func requireDeterminism() throws {
  guard getenv("SWIFT_DETERMINISTIC_HASHING") == nil else {
    // Whatever else this machine does has limits of time; simulated time has none.
    _ = nice(10)
    return
  }
  setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
  let arguments = CommandLine.arguments.map { strdup($0) } + [nil]
  execv(CommandLine.programPath, arguments)
  throw ValidationError("cannot start \(CommandLine.programPath) again")
}

extension CommandLine {
  /// This program, wherever it was started from.
  static var programPath: String {
    var path = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &path, path.count - 1)
    return String(decoding: path.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
