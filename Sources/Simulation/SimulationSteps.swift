// One step of a simulation after the other: who is next, how much time passes, and what is checked
// each time.

import EdgeTesting
import NIOCore
import NIOEmbedded
import Store
import WALShip

extension Simulation {
  /// Starts the cluster with a database that is not empty.
  func setUp() throws {
    try primary.start()
    try foreign.makeDatabase(on: primary)
    for node in nodes.dropFirst() { try node.start() }
    settle(milliseconds: 200)
  }

  /// One step: somebody does something, and the checks follow.
  func step() throws {
    if pick(3) != 0 { pass(UInt64(pick(4_000_000))) } else if isOneIn(60) { passLong() }
    relieve()
    if depth == 0, !isHealing { try disturb() }
    for _ in 0...pick(12) { try act() }
    try look()
  }

  private func passLong() {
    // Long enough for heartbeats, time limits and what is tried again.
    pass(UInt64(500 + pick(4000)) * 1_000_000)
  }

  /// Lets time pass everywhere.
  func pass(_ nanoseconds: UInt64) {
    now += nanoseconds
    for node in nodes { node.advance(to: now) }
    collect()
  }

  private func collect() { network.collect(now: now) }

  private func relieve() {
    let due = reliefs.filter { $0.at <= now }
    reliefs.removeAll { $0.at <= now }
    for relief in due { relief.action() }
  }

  /// Lets somebody who can do something do it.
  func act() throws {
    for node in nodes { node.lookForForeignCommits() }
    var candidates: [() throws -> Void] = []
    for node in nodes where node.mayRun {
      for thread in node.idleThreads {
        candidates.append { node.run { _ = thread.runJob() } }
      }
      let loop = node.loops[pick(3)]
      candidates.append { node.run { loop.run() } }
    }
    for (_, end) in network.ready(now: now) {
      let deliver = { [network] in network.deliver(end) }
      candidates += [deliver, deliver]
    }
    if depth == 0 || !isHealing {
      for client in clients where client.mayStep { candidates.append { try client.step() } }
    }
    if depth == 0, plan.foreignWriter || plan.longReader, !isHealing, isOneIn(10) {
      candidates.append { [self] in try foreign.step() }
    }
    guard !candidates.isEmpty else { return }
    try candidates[pick(candidates.count)]()
    collect()
  }

  // MARK: Waiting inside of a step

  /// Somebody has nothing to do for a while: short naps pass, in longer ones others run.
  func pause(microseconds: Int) {
    if microseconds >= 20_000, depth < 4 {
      runOthers(nanoseconds: UInt64(microseconds) * 1000) { false }
    } else {
      now += UInt64(microseconds) * 1000
    }
  }

  /// Runs everybody who is not in the middle of something. The deeper waits lie within each other, the
  /// less happens in one: those for what cannot come would multiply.
  func runOthers(nanoseconds: UInt64, until isDone: () -> Bool) {
    let former = active
    depth += 1
    defer {
      depth -= 1
      active = former
    }
    let end = now + nanoseconds
    var rounds = 0
    while now < end, !isDone(), rounds < 200 >> (2 * (depth - 1)), violation == nil {
      rounds += 1
      active = nil
      if rounds % 4 == 0 { pass(max(1_000_000, (end - now) / 10)) }
      relieve()
      do {
        try act()
      } catch { violation = violation ?? (error as? Violation) ?? Violation("\(error)") }
    }
    now = max(now, isDone() ? now : end)
  }

  /// Runs what a node has to do, without anybody else, until it has done what somebody waits for.
  func drain(_ node: SimulatedNode, until isDone: () -> Bool = { false }) {
    for _ in 0..<10_000 where !isDone() {
      guard let thread = node.idleThreads.first else { break }
      _ = thread.runJob()
      for loop in node.loops { loop.run() }
    }
    for loop in node.loops { loop.run() }
    collect()
  }

  /// Lets everybody run until nothing happens any more, or the time is over.
  func settle(milliseconds: Int) {
    let end = now + UInt64(milliseconds) * 1_000_000
    while now < end, violation == nil {
      for _ in 0..<40 {
        do { try act() } catch { violation = violation ?? (error as? Violation) }
      }
      pass(5_000_000)
    }
  }

  // MARK: Checks

  /// Looks after what has just happened: nodes that ended, positions that are new.
  func look() throws {
    if let violation { throw violation }
    guard depth == 0 else { return }
    for node in nodes where node.isUp && node.isDead { noteEnd(of: node) }
    for node in nodes where node.isUp { try check(node) }
    if let violation { throw violation }
  }

  private func check(_ node: SimulatedNode) throws {
    guard let position = node.tracker?.position else { return }
    if let primary = node.primary {
      guard node.checked != position else { return }
      node.checked = position
      // A new epoch begins without a commit.
      let place = primary.database.logWatch.place
      if !record.knows(position),
        primary.database.tracker.exactPosition(at: place ?? noPlace) == position
      {
        try record.note(position, node.image(), on: node.name)
      }
      return
    }
    guard let database = node.replica?.database, node.checked != position else { return }
    node.checked = position
    guard !database.isForeign, !node.isRotten, !database.injector.isBatchOpen, position.txid > .zero
    else { return }
    guard let image = node.image() else {
      throw Violation("\(node.name) has files that no one can read")
    }
    counts.checks += 1
    try record.check(position, image, on: node.name)
    try checkLength(node)
  }

  private var noPlace: LogPlace { LogPlace(salts: Salts(first: 0, second: 0), frame: 0) }

  /// The WAL stays bounded while nobody reads for long.
  private func checkLength(_ node: SimulatedNode) throws {
    guard !plan.longReader, let frames = node.replica?.database?.injector.frameCount else { return }
    let limit = 4 * plan.checkpointFrames + 3000
    guard frames <= limit else {
      throw Violation("the WAL of \(node.name) has \(frames) frames, and nobody reads")
    }
  }

  // MARK: Ends

  func noteEnd(of node: SimulatedNode) {
    trace("\(node.name) has ended in call \(node.disk.calls)")
    network.drop(node, tellsPeers: pick(3) != 0, now: now)
    foreign.leave(node)
    node.crash()
    for client in clients where client.node === node { client.disconnect() }
    counts.crashes += 1
    restarts[node.number] = now + UInt64(pick(3000)) * 1_000_000
  }
}
