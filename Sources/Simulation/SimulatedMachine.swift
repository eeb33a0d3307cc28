// Time, threads and chance of a simulated cluster, as the engine meets them.

import EdgeTesting
import Glibc
import Store
import WALShip

/// The machine in whose place a simulation stands. One for the process; it speaks for the simulation
/// that runs.
final class SimulatedMachine: MachineSubstitute, @unchecked Sendable {  // one thread
  static let shared = SimulatedMachine()
  var simulation: Simulation?

  /// Takes the place of the real machine, once for the process.
  static func install() {
    guard Machine.substitute == nil else { return }
    Machine.substitute = shared
    Chance.substitute = { shared.simulation?.productChance.next() ?? 4 }
    DiskFaults.install { operation, path in
      shared.simulation?.disk(of: path)?.call(DiskCall(operation), path) ?? 0
    }
    SimulatedVFS.diskOf = { shared.simulation?.disk(of: $0) }
    SimulatedVFS.random = { shared.simulation?.productChance.next() ?? 4 }
    SimulatedVFS.register()
    // What a node that was killed had open stays open until the seed is over.
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  var monotonicNanoseconds: UInt64 { simulation?.now ?? 0 }

  /// Some node's wall clock may be anything; it must not matter.
  var wallClockMicroseconds: UInt64 {
    guard let simulation else { return 0 }
    let shift = Int64(simulation.active?.wallShiftSeconds ?? 0) * 1_000_000
    return UInt64(max(0, 1_700_000_000_000_000 + shift + Int64(simulation.now / 1000)))
  }

  func pause(microseconds: Int) { simulation?.pause(microseconds: microseconds) }

  func wait(milliseconds: Int, isDone: () -> Bool) {
    simulation?.runOthers(nanoseconds: UInt64(milliseconds) * 1_000_000, until: isDone)
  }

  func hasJobs(_ thread: DatabaseThread) { simulation?.active?.note(thread) }

  func bootID(of path: String) -> [UInt8] {
    guard let simulation, let node = simulation.node(of: path) else { return [] }
    return [UInt8(truncatingIfNeeded: node.boot), UInt8(node.number)]
      + [UInt8](repeating: 1, count: 14)
  }

  func fileNumber(of path: String) -> UInt64 { simulation?.disk(of: path)?.fileNumber(path) ?? 0 }
}
