// A cluster in one thread: a seed decides how it looks, what its clients do, which faults it meets,
// and in which order everything happens. The nodes are the real ones, down to SQLite; only disks,
// network, threads and time are simulated. docs/TESTING.md

import EdgeTesting
import Glibc
import Logging
import NIOCore
import NIOEmbedded
import Replica
import Serving
import Store
import WALShip

/// One run of one seed.
package final class Simulation {
  /// How a run ended.
  package struct Outcome {
    package var seed: UInt64
    /// Nil when all promises held.
    package var violation: String?
    /// The last events before the violation.
    package var story: [String]
    /// The same for each run of the seed.
    package var traceHash: UInt64
    package var conditions: String
    package var counts: Counts
  }

  /// What a run consisted of.
  package struct Counts {
    package var transactions = 0
    package var answers = 0
    package var checks = 0
    package var crashes = 0
    package var starts = 0
    package var deliveries = 0
  }

  let seed: UInt64
  let plan: SimulationPlan
  let folder: String
  var now: UInt64 = 1_000_000_000_000
  /// Decides the order of things, and faults.
  var chance: SeededGenerator
  /// What the nodes get for random numbers.
  var productChance: SeededGenerator
  let network: SimulatedNetwork
  private(set) var nodes: [SimulatedNode] = []
  private(set) var clients: [SimulatedClient] = []
  private(set) var foreign: ForeignPrograms!
  var record = StateRecord()
  var log: Trace
  var counts = Counts()
  /// The first promise that was broken.
  var violation: Violation?
  /// In whose name something runs.
  var active: SimulatedNode?
  /// The node that is meant to be the primary.
  var primaryNumber = 0
  var depth = 0
  var isHealing = false
  /// A kept copy of the primary's files, and when it was taken.
  var backup: SimulatedDisk.Image?
  /// Nodes whose planned end is that of their machine.
  var powerLosses: Set<Int> = []
  /// When nodes that are down come back.
  var restarts: [Int: UInt64] = [:]
  /// When suspended nodes go on, and blocked directions open.
  var reliefs: [(at: UInt64, action: () -> Void)] = []

  init(seed: UInt64, plan: SimulationPlan, folder: String, prints: Bool) {
    self.seed = seed
    self.plan = plan
    self.folder = folder
    log = Trace(prints: prints)
    chance = SeededGenerator(exactly: seed &+ 0x5EED)
    productChance = SeededGenerator(exactly: seed &* 31 &+ 7)
    network = SimulatedNetwork(seed: seed &+ 0xA11)
    for number in 0...plan.upstreams.count {
      let disk = SimulatedDisk(
        parent: "\(folder)/\(number)", seed: seed &* 100 &+ UInt64(number),
        tracksDurability: plan.powerLosses)
      let node = SimulatedNode(
        number: number, role: number == 0 ? .primary : .replica, disk: disk, simulation: self)
      if number > 0 { node.upstreams = plan.upstreams[number - 1] }
      node.wallShiftSeconds = pick(3) == 0 ? pick(1_000_000) - 500_000 : 0
      nodes.append(node)
    }
    clients = (1...plan.clients).map {
      SimulatedClient(number: $0, simulation: self, seed: seed &* 1000 &+ UInt64($0))
    }
    foreign = ForeignPrograms(simulation: self, seed: seed &+ 0xF0)
    for node in nodes {
      node.disk.onCall = { [unowned self, unowned node] in
        if node.role == .replica, chance.next() % 30 == 0 { foreign.witness(node) }
      }
    }
    network.delayMax = plan.slowLinks ? 200_000_000 : 2_000_000
    network.corruptsOneIn = plan.corruption ? 150 : 0
    if plan.narrowWindow { network.windowBytes = 3000 }
  }

  /// Runs a seed to its end.
  ///
  /// - Parameters:
  ///   - folder: where files may be made; on a disk in memory.
  ///   - prints: tells everything as it happens.
  package static func run(
    seed: UInt64, folder: String, prints: Bool = false
  ) -> Outcome {
    run(seed: seed, plan: SimulationPlan(seed: seed), folder: folder, prints: prints) {
      try $0.runPhases()
    }
  }

  static func run(
    seed: UInt64, plan: SimulationPlan, folder: String, prints: Bool,
    _ body: (Simulation) throws -> Void
  ) -> Outcome {
    SimulatedMachine.install()
    mkdir(folder, 0o755)
    let own = "\(folder)/\(seed)"
    Files.removeAll(own)
    mkdir(own, 0o755)
    let simulation = Simulation(seed: seed, plan: plan, folder: own, prints: prints)
    SimulatedMachine.shared.simulation = simulation
    SimulatedVFS.reseed()
    defer {
      SimulatedMachine.shared.simulation = nil
      Files.removeAll(own)
    }
    var violation: String?
    do {
      try body(simulation)
    } catch { violation = "\(error)" }
    simulation.finish()
    return Outcome(
      seed: seed, violation: violation, story: violation == nil ? [] : simulation.log.lines,
      traceHash: simulation.log.hash, conditions: plan.summary, counts: simulation.counts)
  }

  func runPhases() throws {
    trace(plan.summary)
    try setUp()
    for _ in 0..<plan.steps { try step() }
    try heal()
    try checkEnd()
  }

  private func finish() {
    counts.answers = clients.reduce(0) { $0 + $1.answers }
    counts.starts = nodes.reduce(0) { $0 + $1.starts }
    counts.deliveries = network.deliveries
    for node in nodes where node.isUp { node.crash() }
  }

  // MARK: Helpers

  func pick(_ count: Int) -> Int { Int(chance.next() % UInt64(max(1, count))) }
  func isOneIn(_ count: Int) -> Bool { pick(count) == 0 }
  func trace(_ text: String) { log.note(now, text) }

  func logger(_ name: String) -> Logger {
    guard log.prints else { return Logger(label: name) { _ in SwiftLogNoOpLogHandler() } }
    return Logger(label: name) { StreamLogHandler.standardOutput(label: $0) }
  }

  func node(of path: String) -> SimulatedNode? {
    guard path.hasPrefix(folder) else { return nil }
    let rest = path.dropFirst(folder.count + 1)
    return rest.prefix { $0 != "/" }.first?.wholeNumberValue.flatMap {
      $0 < nodes.count ? nodes[$0] : nil
    }
  }

  func disk(of path: String) -> SimulatedDisk? { node(of: path)?.disk }

  var primary: SimulatedNode { nodes[primaryNumber] }

  /// How a replica reaches its upstream.
  func link(from node: SimulatedNode) -> UpstreamLink {
    { [unowned self, unowned node] address, loop, handler in
      let number = address.host.dropFirst(4).first?.wholeNumberValue ?? 0
      let target = nodes[number]
      let isBlocked =
        network.isBlocked(from: node, to: target) || network.isBlocked(from: target, to: node)
      guard let here = try? SocketAddress(ipAddress: "127.0.0.1", port: 1), target.isUp,
        !target.isDead, !isBlocked, !target.isSuspended,
        let server = target.shipServer, target.isServing
      else {
        let isSilent = isBlocked || target.isSuspended
        return loop.scheduleTask(in: isSilent ? .seconds(5) : .milliseconds(1)) {
          throw ChannelError.connectTimeout(.seconds(5))
        }.futureResult
      }
      let up = EmbeddedChannel(loop: target.shipLoop)
      let down = EmbeddedChannel(loop: node.applierLoop)
      network.add(
        SimulatedLink(
          down: LinkEnd(node: node, channel: down), up: LinkEnd(node: target, channel: up)))
      target.run {
        try? up.pipeline.syncOperations.addHandler(server.makeSession())
        _ = up.connect(to: here)
      }
      node.run {
        try? down.pipeline.syncOperations.addHandler(handler())
        _ = down.connect(to: here)
      }
      return loop.makeSucceededVoidFuture()
    }
  }

  // MARK: What the nodes report

  /// A primary was opened: what it has must be what it had.
  func opened(_ node: SimulatedNode) throws {
    guard let database = node.primary?.database else { return }
    let position = database.tracker.position
    trace("\(node.name) is a primary at \(position.epoch).\(position.txid)")
    for note in database.notes { trace("  \(note)") }
    guard let image = node.image() else {
      throw Violation("\(node.name) has files that no one can read")
    }
    try record.note(position, image, on: node.name)
  }

  /// A primary has given a commit its number.
  func captured(_ transaction: CapturedTransaction, on node: SimulatedNode) {
    counts.transactions += 1
    do {
      try record.note(
        transaction.position, node.image(through: transaction.place.frame), on: node.name)
    } catch {
      violation = violation ?? error
    }
  }
}
