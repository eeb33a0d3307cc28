// Any number of databases, of which those are open that somebody uses or has used a short while
// ago. One that is closed is a name in a set: no thread, no file, no object. How databases are made
// and removed is in `DatabaseChanges`.

import Logging
import NIOCore
import Store
import Synchronization

/// The databases of a node that has many. Safe to use from any thread.
public final class OnDemandDatabases: DatabaseDirectory, Sendable {
  public struct Limits: Sendable {
    /// How long a database that nobody uses stays open.
    public var idleMilliseconds = 60_000
    /// The most that are open at once; the one that was unused longest makes room for another.
    public var openMax = 100
    public init() {}
  }

  /// An open database, and whether it is to be removed.
  final class Opened: Sendable {
    let database: any OpenDatabase
    let isRevoked = Atomic<Bool>(false)
    init(_ database: any OpenDatabase) { self.database = database }
  }

  struct Waiter {
    let loop: any EventLoop
    let completion: @Sendable (Result<DatabaseLease, RequestError>) -> Void
  }

  /// What is known of a database that is not simply closed.
  struct Entry {
    enum Phase {
      case opening
      case open(Opened)
      case closing
      /// It is being made or removed: nobody gets it.
      case changing
    }
    var phase: Phase
    var leases = 0
    var usedNanoseconds: UInt64 = 0
    /// Those who get it as soon as it is open.
    var waiters: [Waiter] = []
  }

  struct State {
    var names: Set<DatabaseName> = []
    var entries: [DatabaseName: Entry] = [:]
    var isStopped = false
  }

  let keeper: any DatabaseKeeper
  public let catalogue: DatabaseCatalogue
  let limits: Limits
  let logger: Logger
  public let role: NodeRole
  let state = Mutex(State())
  let hooks = Mutex(Hooks())
  private let sweeper = Mutex<RepeatedTask?>(nil)
  private let freed = FreedMemory()

  /// Requests that wait for one database to open.
  private static let waitersMax = 4096

  /// - Parameters:
  ///   - names: the databases that clients can have.
  ///   - timers: a loop for the looks at what is idle.
  public init(
    keeper: any DatabaseKeeper, names: [DatabaseName], catalogue: DatabaseCatalogue,
    role: NodeRole, limits: Limits, timers: any EventLoop, logger: Logger
  ) {
    self.keeper = keeper
    self.catalogue = catalogue
    self.role = role
    self.limits = limits
    self.logger = logger
    state.withLock { $0.names = Set(names) }
    let pause = TimeAmount.milliseconds(Int64(max(10, min(1000, limits.idleMilliseconds / 4))))
    let task = timers.scheduleRepeatedTask(initialDelay: pause, delay: pause) { [weak self] task in
      guard let self else { return task.cancel() }
      closeIdle()
      freed.look()
    }
    sweeper.withLock { $0 = task }
  }

  public var defaultName: String { NodeContext.databaseNameDefault }
  public var names: [String] { state.withLock { $0.names.map(\.text) }.sorted() }
  public var administration: (any DatabaseAdministration)? { self }
  public var idleMilliseconds: Int? { limits.idleMilliseconds }
  public func closeReaders() {}

  public var counts: (databases: Int, open: Int) {
    state.withLock { ($0.names.count, $0.entries.count) }
  }

  // MARK: Leases

  /// Who opens a database: for followers, room is kept for clients.
  enum Purpose { case client, follower }

  private enum Step {
    case lease(Opened)
    case open
    case wait
    case failed(RequestError)
  }

  public func acquire(
    _ text: String?, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void
  ) {
    let text = text ?? defaultName
    guard let name = DatabaseName(text) else { return completion(.failure(.unknownDatabase(text))) }
    acquire(name, for: .client, on: loop, completion)
  }

  func acquire(
    _ name: DatabaseName, for purpose: Purpose, on loop: any EventLoop,
    _ completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void
  ) {
    let waiter = Waiter(loop: loop, completion: completion)
    var evicted: (DatabaseName, Opened)?
    let step: Step = state.withLock { state in
      guard !state.isStopped else { return .failed(Self.stopping) }
      guard state.names.contains(name) else { return .failed(absence(of: name)) }
      guard let entry = state.entries[name] else {
        guard makeRoom(&state, &evicted, leaves: purpose == .follower ? limits.openMax / 4 : 0)
        else { return .failed(tooManyOpen) }
        state.entries[name] = Entry(phase: .opening, waiters: [waiter])
        return .open
      }
      switch entry.phase {
      case .changing: return .failed(absence(of: name))
      case .open(let opened):
        guard !opened.isRevoked.load(ordering: .relaxed) else {
          return .failed(.unknownDatabase(name.text))
        }
        state.entries[name]?.leases += 1
        return .lease(opened)
      case .opening, .closing:
        guard entry.waiters.count < Self.waitersMax else { return .failed(tooManyOpen) }
        state.entries[name]?.waiters.append(waiter)
        return .wait
      }
    }
    if let (name, opened) = evicted { close(name, opened) }
    switch step {
    case .lease(let opened): completion(.success(lease(name, opened)))
    case .open: open(name)
    case .wait: break
    case .failed(let error): completion(.failure(error))
    }
  }

  static let stopping = RequestError(.overloaded, ThreadStopped().description)
  var tooManyOpen: RequestError {
    RequestError(
      .overloaded, "\(limits.openMax) databases are in use, as many as this node may have open")
  }

  /// A lease that is counted already.
  private func lease(_ name: DatabaseName, _ opened: Opened) -> DatabaseLease {
    DatabaseLease(
      node: opened.database.node,
      revocation: { opened.isRevoked.load(ordering: .relaxed) },
      onEnd: { [weak self] in self?.leaseEnded(name) })
  }

  private func leaseEnded(_ name: DatabaseName) {
    let now = monotonicNanoseconds()
    state.withLock { state in
      state.entries[name]?.leases -= 1
      state.entries[name]?.usedNanoseconds = now
    }
  }

  // MARK: Opening

  private func open(_ name: DatabaseName) {
    Task {
      do {
        opened(name, try await keeper.open(name))
      } catch {
        logger.error(
          "a database cannot be opened", metadata: ["database": "\(name)", "error": "\(error)"])
        let told = keeper.clientError(error)
        let waiters = state.withLock { $0.entries.removeValue(forKey: name)?.waiters ?? [] }
        refuse(waiters, told)
      }
    }
  }

  /// Hands an open database to those who wait for it.
  func opened(_ name: DatabaseName, _ database: any OpenDatabase) {
    stayOpen(name, Opened(database))
  }

  private func stayOpen(_ name: DatabaseName, _ opened: Opened) {
    let now = monotonicNanoseconds()
    let waiters = state.withLock { state in
      let waiters = state.entries[name]?.waiters ?? []
      state.entries[name] = Entry(
        phase: .open(opened), leases: waiters.count, usedNanoseconds: now)
      return waiters
    }
    for waiter in waiters {
      let lease = lease(name, opened)
      waiter.loop.execute { waiter.completion(.success(lease)) }
    }
  }

  /// Lets another database be opened, if need be in the place of the one unused longest.
  ///
  /// - Parameter leaves: so many places are kept for others.
  func makeRoom(
    _ state: inout State, _ evicted: inout (DatabaseName, Opened)?, leaves spare: Int = 0
  ) -> Bool {
    let count = state.entries.values.count { entry in
      switch entry.phase {
      case .opening, .open, .changing: true
      case .closing: false
      }
    }
    guard count >= limits.openMax - spare else { return true }
    let unused = state.entries.filter {
      $0.value.leases == 0 && $0.value.opened?.database.isAtRest ?? false
    }
    guard
      let oldest = unused.min(by: { $0.value.usedNanoseconds < $1.value.usedNanoseconds }),
      let opened = oldest.value.opened
    else { return false }
    state.entries[oldest.key]?.phase = .closing
    evicted = (oldest.key, opened)
    return true
  }

  // MARK: Closing

  private func closeIdle() {
    let now = monotonicNanoseconds()
    let limit = UInt64(limits.idleMilliseconds) * 1_000_000
    let idle = state.withLock { state in
      state.entries.compactMap { name, entry -> (DatabaseName, Opened)? in
        guard entry.leases == 0, let opened = entry.opened else { return nil }
        let used = max(entry.usedNanoseconds, opened.database.usedNanoseconds)
        guard now - min(now, used) >= limit, opened.database.isAtRest else { return nil }
        state.entries[name]?.phase = .closing
        return (name, opened)
      }
    }
    for (name, opened) in idle { close(name, opened) }
  }

  /// Closes a database that is marked so; those who came meanwhile get it opened again.
  private func close(_ name: DatabaseName, _ opened: Opened) {
    Task { await closeUnlessUsed(name, opened) }
  }

  /// It stays open when a follower has just sent something.
  func closeUnlessUsed(_ name: DatabaseName, _ opened: Opened) async {
    guard await opened.database.letFollowersGo() else { return stayOpen(name, opened) }
    await opened.database.close()
    freed.noteClosed()
    closed(name)
  }

  func closed(_ name: DatabaseName) {
    var evicted: (DatabaseName, Opened)?
    var turnedAway: [Waiter] = []
    let isWanted = state.withLock { state in
      // Whoever came meanwhile needs room as anybody does.
      guard let entry = state.entries[name], !entry.waiters.isEmpty, makeRoom(&state, &evicted)
      else {
        turnedAway = state.entries.removeValue(forKey: name)?.waiters ?? []
        return false
      }
      state.entries[name]?.phase = .opening
      return true
    }
    if let (name, opened) = evicted { close(name, opened) }
    if isWanted { open(name) }
    refuse(turnedAway, tooManyOpen)
  }

  private func refuse(_ waiters: [Waiter], _ error: RequestError) {
    for waiter in waiters {
      waiter.loop.execute { waiter.completion(.failure(error)) }
    }
  }

  /// Closes everything; the listeners are closed by then.
  public func stop() async {
    sweeper.withLock { $0 }?.cancel()
    state.withLock { $0.isStopped = true }
    for _ in 0..<Self.stopRounds where hasUnsettled {
      try? await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
    }
    let all = state.withLock { state in
      defer { state.entries = [:] }
      return state.entries.values.compactMap(\.opened)
    }
    await withTaskGroup(of: Void.self) { group in
      for opened in all { group.addTask { await opened.database.close() } }
    }
  }

  private var hasUnsettled: Bool {
    state.withLock { state in state.entries.values.contains { $0.opened == nil } }
  }
  static let pollMilliseconds: Int64 = 5
  private static let stopRounds = 2000
}

extension OnDemandDatabases.Entry {
  var opened: OnDemandDatabases.Opened? {
    if case .open(let opened) = phase { opened } else { nil }
  }
}
