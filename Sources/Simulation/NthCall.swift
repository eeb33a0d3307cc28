// One disk operation fails: the first, the second, and so on, until a run has fewer than that. After
// each of them nothing is lost, nothing is wrong, and the cluster comes to rest.

import Glibc
import Store
import WALShip

/// A small workload that is run again and again, with another call failing each time.
package enum NthCall {
  package enum Target: String, Sendable, CaseIterable { case primary, replica }

  package struct Outcome {
    /// The kind of the call that failed; nil when the run made fewer calls.
    package var call: String?
    package var violation: String?
    package var story: [String]
  }

  /// Runs the workload with call number `number` of a node failing, counted from its first start.
  package static func run(
    _ target: Target, number: Int, isDiskFull: Bool, folder: String, prints: Bool = false
  ) -> Outcome {
    var plan = SimulationPlan.quiet
    plan.vacuum = true
    var failed: DiskCall?
    let outcome = Simulation.run(seed: 11, plan: plan, folder: folder, prints: prints) {
      simulation in
      let node = simulation.nodes[target == .primary ? 0 : 1]
      node.disk.failure = (number, isDiskFull ? ENOSPC : EIO)
      try simulation.setUpPatiently()
      for _ in 0..<120 { try simulation.step() }
      failed = node.disk.failedCall
      for node in simulation.nodes {
        try simulation.stop(node)
        try simulation.restart(node)
      }
      for _ in 0..<40 { try simulation.step() }
      failed = failed ?? node.disk.failedCall
      try simulation.heal()
      try simulation.checkEnd()
    }
    return Outcome(call: failed?.rawValue, violation: outcome.violation, story: outcome.story)
  }
}

extension SimulationPlan {
  /// One primary, one replica, one client, and nothing that fails by chance.
  static var quiet: SimulationPlan {
    SimulationPlan(
      pageSize: PageSize(1024)!, checkpointFrames: 12, upstreams: [[0]], clients: 1, steps: 120)
  }
}

extension Simulation {
  /// Starts the cluster although a call may fail: whoever starts a node tries again.
  func setUpPatiently() throws {
    for node in nodes {
      for _ in 1...3 where !node.isUp {
        do {
          try node.start()
          if node.role == .primary { try foreign.makeDatabase(on: node) }
        } catch {
          trace("\(node.name) does not start: \(error)")
          if node.isUp { try stop(node) }
          restarts[node.number] = nil
          node.disk.begin(with: node.disk.present())
        }
      }
    }
    settle(milliseconds: 200)
  }
}
