// Reads all pages now and then, slowly, and compares them with the page map: what a disk changed by
// itself is found before a client or a follower gets it.

import NIOCore
import Store
import Synchronization
import WALShip

/// How a node looks for damaged pages.
public struct ScrubOptions: Sendable {
  /// Bytes read in a second; 0 for no scrub.
  public var bytesPerSecond = 32 << 20
  /// From the end of one pass to the start of the next.
  public var intervalSeconds = 86_400
  public init() {}
}

/// What a node knows of its scrub.
public struct ScrubStatus: Equatable, Sendable {
  public var isRunning = false
  public var pagesDone: UInt32 = 0
  public var pagesTotal: UInt32 = 0
  /// Passes that reached the end.
  public var passes: UInt64 = 0
  /// Monotonic time of the end of the last pass.
  public var finishedNanoseconds: UInt64?
  /// Pages found damaged since the node started.
  public var damaged: UInt64 = 0
  /// Those among them that were fetched again, and read back right.
  public var repaired: UInt64 = 0
  /// Entries of the page map that were damaged, while their pages were right.
  public var mended: UInt64 = 0
  public var lastError: String?
  public init() {}
}

/// The background check of one database. Safe to use from any thread.
public final class Scrubber: @unchecked Sendable {  // `check` is used by one pass at a time
  /// What one pass found.
  public struct Report: Equatable, Sendable {
    public var pages: UInt32 = 0
    public var damaged: [Pgno] = []
    public var repaired = 0
    public var mended = 0
  }

  /// Is told what a pass found, or why it did not reach the end.
  public typealias Completion = @Sendable (Result<Report, any Error>) -> Void

  private struct State {
    var status = ScrubStatus()
    /// A pass runs, or is about to.
    var isQueued = false
    var isHurried = false
    var isStopped = false
    /// A later pass, and the monotonic time at which it begins.
    var planned: (task: Scheduled<Void>, nanoseconds: UInt64)?
    /// Those who wait for a pass that has not begun: one that runs may be past what they ask about.
    var waiting: [Completion] = []
  }

  private let path: String
  private let map: PageMapFile
  private let tracker: PositionTracker
  private let options: ScrubOptions
  private let timers: any EventLoop
  private let canRepair: Bool
  private let onDamage: @Sendable ([WrongPage]) -> Void
  private let state = Mutex(State())
  private var check: PageCheck?

  private static let chunkBytes = 1 << 20
  /// How often a pass reads all pages when the page map changes by itself meanwhile.
  private static let readingsMax = 3
  /// How long a pass waits for damaged pages to come back.
  private static let repairTries = 100
  private static let repairPauseMicroseconds = 100_000

  /// - Parameters:
  ///   - canRepair: damaged pages come back from elsewhere after `onDamage`.
  ///   - onDamage: called on the scrub's thread with pages that are not what they were written as.
  public init(
    path: String, map: PageMapFile, tracker: PositionTracker, options: ScrubOptions,
    timers: any EventLoop, canRepair: Bool, onDamage: @escaping @Sendable ([WrongPage]) -> Void
  ) {
    self.path = path
    self.map = map
    self.tracker = tracker
    self.options = options
    self.timers = timers
    self.canRepair = canRepair
    self.onDamage = onDamage
  }

  public var status: ScrubStatus { state.withLock { $0.status } }

  /// Begins a first pass, and lets others follow.
  public func start() { if options.bytesPerSecond > 0 { request() } }

  /// The same when the time between two passes has gone by: a database that comes and goes is not read
  /// as a whole each time.
  public func startLater() { plan(after: .seconds(Int64(options.intervalSeconds))) }

  /// Asks for a pass soon; one that runs already will do.
  public func request() { queue(hurried: false) }

  /// Runs a pass at full speed, from now on: after one that runs already, which hurries up.
  ///
  /// - Parameter completion: called once, on a thread that must not wait.
  public func run(completion: @escaping Completion) {
    guard queue(hurried: true, completion) else { return completion(.failure(ThreadStopped())) }
  }

  /// Ends a pass that runs. No damage is reported any more once the thread is idle.
  public func stop() {
    state.withLock { state in
      state.isStopped = true
      state.planned?.task.cancel()
    }
  }

  /// - Returns: false when this has been stopped; those who wait by then are still answered.
  @discardableResult
  private func queue(hurried: Bool, _ completion: Completion? = nil) -> Bool {
    state.withLock { state in
      guard !state.isStopped else { return false }
      if hurried { state.isHurried = true }
      if let completion { state.waiting.append(completion) }
      if !state.isQueued {
        state.isQueued = true
        startPass()
      }
      return true
    }
  }

  /// A pass has a thread of its own: an idle node needs none for what happens once a day.
  private func startPass() {
    let thread = DatabaseThread()
    thread.submit { [self] in pass() }
    thread.stop()
  }

  // MARK: On the thread

  private func pass() {
    let served = state.withLock { state in
      defer { state.waiting = [] }
      state.status.isRunning = true
      state.status.pagesDone = 0
      state.status.pagesTotal = map.live.pageCount
      return state.waiting
    }
    let result = Result { try scrub() }
    check = nil
    // Nobody is refused where another pass begins.
    let refused: [Completion]? = state.withLock { state in
      state.status.isRunning = false
      switch result {
      case .success:
        state.status.passes += 1
        state.status.finishedNanoseconds = monotonicNanoseconds()
        state.status.lastError = nil
      case .failure(let error) where error is ThreadStopped: break
      case .failure(let error): state.status.lastError = "\(error)"
      }
      guard state.waiting.isEmpty || state.isStopped else {
        startPass()
        return nil
      }
      defer { state.waiting = [] }
      state.isQueued = false
      state.isHurried = false
      return state.waiting
    }
    for completion in served { completion(result) }
    guard let refused else { return }
    for completion in refused { completion(.failure(ThreadStopped())) }
    let pause: TimeAmount
    if case .success = result {
      pause = .seconds(Int64(options.intervalSeconds))
    } else {
      pause = .seconds(60)
    }
    plan(after: pause)
  }

  /// One that begins sooner takes the place of the one that was planned.
  private func plan(after pause: TimeAmount) {
    guard options.bytesPerSecond > 0 else { return }
    let start = monotonicNanoseconds() + UInt64(pause.nanoseconds)
    state.withLock { state in
      guard start < state.planned?.nanoseconds ?? .max, !state.isStopped else { return }
      state.planned?.task.cancel()
      let task: Scheduled<Void> = timers.scheduleTask(in: pause) { [weak self] in
        guard let self else { return }
        self.state.withLock { $0.planned = nil }
        request()
      }
      state.planned = (task, start)
    }
  }

  private func scrub() throws -> Report {
    let check = try PageCheck(path: path, map: map, tracker: tracker)
    self.check = check
    var report = Report()
    for _ in 0..<Self.readingsMax {
      let before = map.imbalance
      let wrong = try compare(check, &report)
      if !wrong.isEmpty {
        try judge(wrong, &report)
        break
      }
      let imbalance = map.imbalance
      guard imbalance != .empty else { break }
      // An entry that was damaged after its page was compared is not right: all are read again.
      guard imbalance == before else { continue }
      if try map.balance() {
        report.mended += 1
        state.withLock { $0.status.mended += 1 }
      }
      break
    }
    return report
  }

  /// Compares all pages with their entries.
  ///
  /// - Returns: those that differ.
  private func compare(_ check: PageCheck, _ report: inout Report) throws -> [WrongPage] {
    let count = max(1, Self.chunkBytes / map.identity.pageSize.bytes)
    var wrong: [WrongPage] = []
    var cursor: UInt32? = 0
    while let after = cursor {
      let part = try patiently { try check.check(after: after, count: count) }
      // Something is wrong: what else is must be known soon.
      if !part.wrong.isEmpty { state.withLock { $0.isHurried = true } }
      wrong += part.wrong
      cursor = part.cursor
      report.pages = cursor ?? map.live.pageCount
      state.withLock { $0.status.pagesDone = report.pages }
      try pause(bytes: count * map.identity.pageSize.bytes)
    }
    // What was overwritten meanwhile is right again.
    return try wrong.filter { page in try patiently { try check.confirm(page.pgno) } == page }
  }

  /// Tells damaged entries of the page map from damaged pages.
  private func judge(_ wrong: [WrongPage], _ report: inout Report) throws {
    if map.mend(wrong) {
      report.mended = wrong.count
      return state.withLock { $0.status.mended += UInt64(wrong.count) }
    }
    report.damaged = wrong.map(\.pgno)
    state.withLock { $0.status.damaged += UInt64(wrong.count) }
    onDamage(wrong)
    guard canRepair else { return }
    var left = wrong.map(\.pgno)
    for _ in 0..<Self.repairTries where !left.isEmpty {
      pauseThread(microseconds: Self.repairPauseMicroseconds)
      guard let check, !state.withLock({ $0.isStopped }) else { throw ThreadStopped() }
      left = try left.filter { try check.confirm($0) != nil }
    }
    report.repaired = wrong.count - left.count
    let repaired = report.repaired
    state.withLock { $0.status.repaired += UInt64(repaired) }
  }

  /// Commits that come densely can leave no quiet moment for a snapshot.
  private func patiently<T>(_ body: () throws -> T) throws -> T {
    for _ in 0..<100 {
      if state.withLock({ $0.isStopped }) { throw ThreadStopped() }
      do {
        return try body()
      } catch let error as SQLiteError where error.primaryCode == SQLiteError.busy {
        pauseThread(microseconds: 20_000)
      }
    }
    return try body()
  }

  /// Keeps to the rate, in naps that are short enough for `stop`.
  private func pause(bytes: Int) throws {
    let rate = options.bytesPerSecond > 0 ? options.bytesPerSecond : ScrubOptions().bytesPerSecond
    var left = bytes * 1_000_000 / rate
    while true {
      let (isStopped, isHurried) = state.withLock { ($0.isStopped, $0.isHurried) }
      if isStopped { throw ThreadStopped() }
      guard left > 0, !isHurried else { return }
      let nap = min(left, 50_000)
      pauseThread(microseconds: nap)
      left -= nap
    }
  }
}
