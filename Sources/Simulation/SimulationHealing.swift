// The end of each simulation: all faults are over, and what was promised must come true in a bounded
// number of steps.

import EdgeTesting
import Serving
import Store
import WALShip

extension Simulation {
  private static let roundsMax = 400

  /// Ends all faults, and lets the cluster come to rest.
  func heal() throws {
    isHealing = true
    trace("healing")
    reliefs = []
    network.blocked = []
    network.delayMax = 2_000_000
    network.corruptsOneIn = 0
    network.windowBytes = 1 << 20
    foreign.leaveAll()
    for node in nodes {
      node.disk.fault = nil
      node.disk.isFull = false
      node.isSuspended = false
    }
    for client in clients { client.isPaused = true }
    for node in nodes where node.isUp && !node.isDead && node.disk.isCrashPlanned {
      node.disk.end(powerLosses.contains(node.number) ? .powerLoss : .kill)
    }
    try look()
    for node in nodes where !node.isUp { restarts[node.number] = now }
    try rest()
    for client in clients { client.isPaused = false }
    for _ in 0..<60 { try step() }
    for client in clients { client.isPaused = true }
    try rest()
  }

  /// Helps the cluster until nothing is left to be done.
  private func rest() throws {
    for round in 0..<Self.roundsMax {
      for (number, at) in restarts.sorted(by: { $0.key < $1.key }) where at <= now {
        try restart(nodes[number])
      }
      for _ in 0..<60 {
        try act()
        try look()
      }
      pass(round % 3 == 0 ? 300_000_000 : 20_000_000)
      if round % 20 == 10 { try helpPrimary() }
      guard round > 5, isAtRest() else { continue }
      let rotten = nodes.filter { $0.isRotten && !$0.isScrubbed }
      if rotten.isEmpty { return }
      // The operator lets those nodes look at all their pages.
      for node in rotten {
        node.run {
          node.context?.scrubber?.run { result in
            guard case .success(let report) = result, report.repaired == report.damaged.count
            else { return }
            node.isScrubbed = true
          }
        }
      }
    }
    throw Violation(
      "the cluster does not come to rest: " + nodes.map(describe).joined(separator: "; "))
  }

  /// A primary whose disk has failed stops writes until it is started again; one that was superseded
  /// until it is demoted.
  private func helpPrimary() throws {
    for node in nodes where node.role == .primary && node.mayRun {
      guard node.number == primaryNumber else {
        trace("\(node.name) makes room for \(primary.name)")
        try stop(node)
        restarts[node.number] = nil
        guard !node.isUp else { continue }
        try demote(node)
        continue
      }
      if !foreign.probe(node) { try stop(node) }
    }
  }

  private func describe(_ node: SimulatedNode) -> String {
    let position = node.tracker?.position
    let place = position.map { "\($0.epoch).\($0.txid)" } ?? "nowhere"
    let upstream = node.replica?.upstreamSummary ?? ""
    return "\(node.name) \(node.isUp ? "up" : "down") at \(place) \(upstream)"
  }

  /// Whether all nodes hold the same, and everybody has been answered.
  private func isAtRest() -> Bool {
    guard primary.mayRun, let head = primary.tracker?.position,
      clients.allSatisfy(\.isIdle), nodes.allSatisfy({ $0.isServing && !$0.isDead })
    else { return false }
    for node in nodes where node !== primary {
      guard node.role == .replica, let position = node.tracker?.position,
        position.txid == head.txid, position.epoch == head.epoch
      else { return false }
    }
    return foreign.probe(primary)
      && nodes.allSatisfy { $0.tracker?.position.txid == primary.tracker?.position.txid }
  }

  // MARK: What must be true now

  func checkEnd() throws {
    guard let expected = primary.image() else { throw Violation("the primary cannot be read") }
    for node in nodes where node !== primary {
      try checkEqual(node, expected)
      if let waiting = node.tracker?.waiterCount, waiting > 0 {
        throw Violation("\(waiting) requests wait on \(node.name) for ever")
      }
    }
    let rows = try foreign.rows(of: primary)
    guard let history = primary.tracker?.epochs else { return }
    for client in clients {
      for (id, fate) in client.fates.sorted(by: { $0.key < $1.key }) {
        let isThere = rows.contains(id)
        switch fate {
        case .acknowledged(let token):
          let survives = history.contains(epoch: token.epoch, txid: token.txid)
          // What another program wrote while no primary ran can begin a new epoch: nothing is lost.
          if !survives, !plan.isLossy, !(plan.foreignWriter && isThere) {
            throw Violation("write \(id) was acknowledged at \(token), which history does not know")
          }
          if survives, !isThere {
            throw Violation("write \(id), acknowledged at \(token), is lost")
          }
        case .refused where isThere: throw Violation("write \(id) was refused, and is there")
        case .refused, .unknown: break
        }
      }
    }
    trace("all is well at \(primary.tracker?.position.txid.rawValue ?? 0)")
  }

  private func checkEqual(_ node: SimulatedNode, _ expected: StateImage) throws {
    guard let image = node.image() else { throw Violation("\(node.name) cannot be read") }
    guard image != expected else { return }
    // A bit that flipped under a page which the WAL holds as well shows once the WAL begins anew,
    // and waits for the next look at all pages.
    let wrong = zip(image.pages, expected.pages).filter { $0 != $1 }.count
    if image.pages.count == expected.pages.count, wrong <= node.flips { return }
    throw Violation(
      "\(node.name) has other pages than the primary: \(image.differences(from: expected))")
  }
}
