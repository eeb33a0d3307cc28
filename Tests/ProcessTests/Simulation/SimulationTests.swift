// Simulated clusters, a few hundred of them; `make sim` runs thousands. docs/TESTING.md

import EdgeTesting
import Glibc
import TestTraits
import Testing

@Suite(.services) struct SimulationTests {
  /// EDGE_SQL_SIMULATION_PARTS=10 runs a tenth, for programs that a sanitizer slows down.
  private static let parts =
    getenv("EDGE_SQL_SIMULATION_PARTS").flatMap { Int(String(cString: $0)) }.map { max(1, $0) } ?? 1

  /// The program that simulates: it stands in for clocks, threads and disks of its whole process.
  private func simulator() throws -> Program {
    let directory = try Program.edgeSQL().path.split(separator: "/").dropLast()
    return Program(path: "/" + directory.joined(separator: "/") + "/edge-sim")
  }

  @Test func fiveHundredSeeds() throws {
    let seeds = 500 / Self.parts
    let result = try simulator().run(
      ["--seeds", "\(seeds)", "--jobs", "1"], deadline: .seconds(2400))
    #expect(result.succeeded, "\(result.output.suffix(8000)) \(result.error.suffix(2000))")
  }

  /// Seeds beyond the first 500 that have found something, in the engine or in the checks.
  @Test(
    arguments: [746, 787, 870, 2030, 2611, 3576, 3648, 4231, 5354, 7856, 7984, 8210, 9725])
  func seedsThatFoundBugs(seed: Int) throws {
    let result = try simulator().run(["one", "\(seed)"], deadline: .seconds(300))
    #expect(result.succeeded, "\(result.output.suffix(8000)) \(result.error.suffix(2000))")
  }

  /// A seed that fails elsewhere must fail here.
  @Test(arguments: [3, 8, 14]) func aSeedGivesTheSameHistoryAgain(seed: Int) throws {
    let once = try simulator().run(["one", "\(seed)"], deadline: .seconds(300))
    let again = try simulator().run(["one", "\(seed)"], deadline: .seconds(300))
    #expect(once.succeeded)
    #expect(once.output == again.output)
  }

  /// Every seventh operation; `make nth` takes every one.
  @Test(arguments: ["primary", "replica"], [false, true])
  func rows06to09_anyOperationMayFail(node: String, isFull: Bool) throws {
    let result = try simulator().run(
      ["nth", node, "--stride", "\(7 * Self.parts)"] + (isFull ? ["--full"] : []),
      deadline: .seconds(600))
    #expect(result.succeeded, "\(result.output.suffix(8000)) \(result.error.suffix(2000))")
  }
}
