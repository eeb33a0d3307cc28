// A node of a simulated cluster: the parts of a real primary or replica, on loops and threads that
// move only when the simulation says so.

import EdgeTesting
import Logging
import NIOCore
import NIOEmbedded
import Primary
import Replica
import Serving
import Store
import WALShip

/// One node, running or not. It lives in the simulation's one thread.
final class SimulatedNode: @unchecked Sendable {  // one thread
  enum Role: Equatable { case primary, replica }

  let number: Int
  var name: String { "node\(number)" }
  let disk: SimulatedDisk
  var role: Role
  /// Numbers of the nodes to follow.
  var upstreams: [Int] = []
  /// Which run of its system this is.
  var boot: UInt64 = 1
  var wallShiftSeconds = 0
  unowned let simulation: Simulation

  // What a start makes, and an end throws away.
  private(set) var isUp = false
  var isSuspended = false
  private(set) var primary: PrimaryParts?
  private(set) var replica: ReplicaParts?
  private(set) var serving: ReplicaParts.Serving?
  private(set) var lineServer: LineServer?
  private(set) var clientLoop = EmbeddedEventLoop()
  private(set) var shipLoop = EmbeddedEventLoop()
  private(set) var applierLoop = EmbeddedEventLoop()
  private(set) var threads: [DatabaseThread] = []
  private var writerThread: DatabaseThread?
  /// Counts starts.
  private(set) var starts = 0
  /// Bits that were changed behind the node's back, and may not have been found yet.
  var flips = 0
  var isRotten: Bool { flips > 0 }
  /// All pages were looked at since the last of them.
  var isScrubbed = false
  /// The last position at which the pages were checked.
  var checked: Position?

  init(number: Int, role: Role, disk: SimulatedDisk, simulation: Simulation) {
    self.number = number
    self.role = role
    self.disk = disk
    self.simulation = simulation
  }

  var path: String { disk.path("db") }
  /// It ended by itself, and nobody has seen to it yet.
  var isDead: Bool { disk.remains != nil }
  var mayRun: Bool { isUp && !isSuspended && !isDead }
  var context: NodeContext? { primary?.context ?? serving?.context }
  var shipServer: ShipServer? { primary?.shipServer ?? serving?.shipServer }
  var tracker: PositionTracker? {
    primary?.database.tracker ?? replica?.database?.tracker
  }
  /// Whether clients and followers can reach it.
  var isServing: Bool { isUp && lineServer != nil }

  /// Runs something in the name of this node.
  func run<T>(_ body: () throws -> T) rethrows -> T {
    let former = simulation.active
    simulation.active = self
    defer { simulation.active = former }
    return try body()
  }

  func note(_ thread: DatabaseThread) {
    if !threads.contains(where: { $0 === thread }) { threads.append(thread) }
  }

  // MARK: Starting

  private var options: NodeOptions {
    var options = NodeOptions()
    options.listen = NodeAddress(host: name, port: 1)
    options.ship = NodeAddress(host: name, port: 2)
    options.name = name
    options.checkpointFrames = simulation.plan.checkpointFrames
    options.logger = simulation.logger(name)
    options.scrub.bytesPerSecond = simulation.plan.scrubs ? 1 << 30 : 0
    options.limits.readTransactionMilliseconds = 20_000
    return options
  }

  /// Starts the node from what is on its disk.
  ///
  /// - Throws: what a real start would throw; the node is down then.
  func start() throws {
    precondition(!isUp)
    starts += 1
    let now = NIODeadline.uptimeNanoseconds(simulation.now)
    (clientLoop, shipLoop, applierLoop) = (.init(), .init(), .init())
    for loop in loops { loop.advanceTime(to: now) }
    threads = []
    checked = nil
    isSuspended = false
    isUp = true
    do {
      try run { role == .primary ? try startPrimary() : try startReplica() }
    } catch {
      end()
      throw error
    }
  }

  private func startPrimary() throws {
    let thread = DatabaseThread()
    writerThread = thread
    let (path, options, pageSize) = (path, options, simulation.plan.pageSize)
    let (timers, shipLoop) = (clientLoop, shipLoop)
    let parts = try thread.sync {
      let database = try PrimaryDatabase(
        path: path, newPageSize: pageSize,
        logFileFramesMax: CheckpointLimits(framesMin: options.checkpointFrames).framesMax)
      return try PrimaryParts(
        database: database, options: options, writerThread: thread, timers: timers,
        shipLoop: shipLoop)
    }
    primary = parts
    let told = parts.database.onCapture
    let simulation = simulation
    parts.database.onCapture = { [unowned self] transaction in
      simulation.captured(transaction, on: self)
      told(transaction)
    }
    try simulation.opened(self)
    parts.begin()
    lineServer = LineServer(node: parts.context, group: clientLoop)
  }

  private func startReplica() throws {
    let configuration = ReplicaConfiguration(
      databasePath: path, upstreams: upstreams.map { NodeAddress(host: "node\($0)", port: 2) },
      options: options)
    let parts = try ReplicaParts(
      configuration: configuration, loop: applierLoop, link: simulation.link(from: self))
    replica = parts
    if let existing = parts.database, !existing.awaitsUpstream { try serve(existing) }
    try parts.follow { [unowned self] database in
      applierLoop.execute { [self] in
        guard isUp, replica === parts else { return }
        do {
          try serve(database)
        } catch { simulation.trace("\(name) cannot serve: \(error)") }
      }
    }
  }

  private func serve(_ database: ReplicaDatabase) throws {
    guard let replica else { return }
    let status = StatusSource(role: .replica, tracker: database.tracker)
    let made = replica.makeServing(
      database, status: { status.make() }, pages: { true }, shipLoop: shipLoop)
    lineServer = LineServer(node: made.context, group: clientLoop)
    try replica.recover(database)
    made.begin()
    serving = made
    replica.attach(made)
  }

  // MARK: Running

  var loops: [EmbeddedEventLoop] { [clientLoop, shipLoop, applierLoop] }

  /// Threads with something to do that are not in the middle of something.
  var idleThreads: [DatabaseThread] { threads.filter { $0.hasJobs && !$0.isRunning } }

  /// Lets time pass on the loops: timers run.
  func advance(to now: UInt64) {
    guard mayRun else { return }
    for loop in loops { run { loop.advanceTime(to: .uptimeNanoseconds(now)) } }
  }

  /// Commits of other programs: what the kernel tells a real node.
  func lookForForeignCommits() {
    guard mayRun, let primary, let place = primary.database.logWatch.place,
      primary.database.tracker.isAhead(place)
    else { return }
    run { primary.captureForeign() }
  }

  // MARK: Ending

  /// Throws everything away that a start made.
  private func end() {
    isUp = false
    primary = nil
    replica = nil
    serving = nil
    lineServer = nil
    threads = []
    writerThread = nil
    isSuspended = false
  }

  /// The process is gone; the disk has what remains.
  func crash() { end() }

  /// Stops in good order.
  func stop() throws {
    precondition(isUp && !isDead)
    try run {
      if let primary {
        primary.quiesce()
        simulation.drain(self)
        try writerThread?.sync { primary.finish() }
      } else if let replica {
        serving?.quiesce()
        simulation.drain(self)
        replica.close()
      }
      simulation.drain(self)
    }
    end()
  }

  // MARK: Files

  /// What a reader of the files would see; nil where nobody can say.
  func image(through frame: UInt32? = nil) -> StateImage? {
    StateImage(
      database: SimulatedDisk.read(path), log: SimulatedDisk.read(path + "-wal"),
      index: SimulatedDisk.read(path + "-shm"), pageSize: simulation.plan.pageSize.bytes,
      limit: frame.map(Int.init))
  }
}
