// Runs simulated histories, each as its seed says, and tells which of them broke a promise.

import ArgumentParser
import Glibc
import Simulation

@main
struct EdgeSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge-sim", abstract: "Simulate clusters under faults.")

  @Option(help: "How many seeds to run.")
  var seeds = 500
  @Option(help: "The first seed.")
  var from: UInt64 = 1
  @Option(help: "Run this seed alone, and tell what happens.")
  var seed: UInt64?
  @Flag(help: "With --seed: tell everything, the logs of the nodes included.")
  var verbose = false

  func run() throws {
    let folder = "/dev/shm/edge-sim-\(getpid())"
    mkdir(folder, 0o755)
    defer { rmdir(folder) }
    if let seed {
      let outcome = Simulation.run(seed: seed, folder: folder, prints: verbose)
      tell(outcome)
      print("trace \(outcome.traceHash)")
      if outcome.violation != nil { throw ExitCode(1) }
      return
    }
    var failures = 0
    for seed in from..<from + UInt64(seeds) {
      let outcome = Simulation.run(seed: seed, folder: folder)
      if outcome.violation != nil {
        failures += 1
        tell(outcome)
      }
    }
    print("\(seeds) seeds, \(failures) with a violation")
    if failures > 0 { throw ExitCode(1) }
  }

  private func tell(_ outcome: Simulation.Outcome) {
    for line in outcome.story { print(line) }
    print("seed \(outcome.seed): \(outcome.conditions)")
    let counts = outcome.counts
    print("  \(counts)")
    print(outcome.violation.map { "  VIOLATION: \($0)" } ?? "  no violation")
  }
}
