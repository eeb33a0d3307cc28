// When the WAL of a primary is copied into its file. Most of the work is done beside the writer;
// only when commits come so densely that the WAL never stands still is the rest copied between two
// of them.

import Logging
import Store
import Synchronization
import WALShip

/// Runs a primary's checkpoints.
final class CheckpointPolicy: @unchecked Sendable {  // see `isRunning`
  struct Statistics: Equatable, Sendable {
    var count = 0
    var restarts = 0
    var lastNanoseconds: UInt64?
    var lastError: String?
    /// Frames of the present generation when last looked at: fewer later means a restart.
    fileprivate var salts: Salts?
  }

  private let database: PrimaryDatabase
  private let writerThread: DatabaseThread
  private let thread = DatabaseThread()
  private let logger: Logger
  private let isRunning = Atomic<Bool>(false)
  private let statistics = Mutex(Statistics())
  /// Frames from which on a checkpoint is worth its two fsyncs.
  private let framesMin: UInt32
  /// Frames above which the writer waits for the end of a checkpoint, so that the WAL can begin
  /// anew.
  private let framesMax: UInt32

  init(
    database: PrimaryDatabase, writerThread: DatabaseThread, framesMin: UInt32, logger: Logger
  ) {
    self.database = database
    self.writerThread = writerThread
    self.framesMin = framesMin
    framesMax = framesMin * 4
    self.logger = logger
  }

  var snapshot: Statistics { statistics.withLock { $0 } }

  /// Looks whether a checkpoint is due. Called after commits, on any thread.
  func consider() {
    guard let place = database.logWatch.place else { return }
    noteRestart(place.salts)
    guard isDue(place), !isRunning.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let accepted = thread.submit { [self] in
      checkpoint { [self] place in
        try writerThread.sync { [self] in try capture(through: place) }
      }
      // Still long: commits came faster than they were copied. Copy what is left while no commit
      // can come.
      if database.logWatch.frames >= framesMax {
        try? writerThread.sync { [self] in finishBetweenCommits() }
      }
      isRunning.store(false, ordering: .releasing)
    }
    if !accepted { isRunning.store(false, ordering: .releasing) }
  }

  /// On the writer's thread: copies the rest while no program can commit, so that the next one
  /// begins the WAL anew.
  private func finishBetweenCommits() {
    guard database.connection.isAutocommit else { return }
    do {
      try database.connection.execute("BEGIN IMMEDIATE")
    } catch { return }  // another program keeps the lock: the next commits ask again
    checkpoint { [self] in try capture(through: $0) }
    // Nothing was written, so there is nothing to roll back: COMMIT leaves the page cache as it is.
    try? database.connection.execute("COMMIT")
  }

  private func isDue(_ place: LogPlace) -> Bool {
    let copied = min(database.logWatch.copiedFrames, place.frame)
    if place.frame - copied >= framesMin { return true }
    guard place.frame >= framesMax, copied < place.frame else { return false }
    // A reader keeps the WAL from beginning anew: try now and then, not with each commit.
    let last = statistics.withLock { $0.lastNanoseconds } ?? 0
    return monotonicNanoseconds() - last >= Self.retryNanoseconds
  }
  private static let retryNanoseconds: UInt64 = 100_000_000

  /// The last checkpoint of this run, on the writer's thread; a complete one lets the next start
  /// trust the file.
  func finish() {
    guard !isRunning.exchange(true, ordering: .acquiringAndReleasing) else { return }
    checkpoint(isClean: true) { [self] in try capture(through: $0) }
  }

  /// Ends the checkpoints that run beside the writer.
  func stop() { thread.stop() }

  private func checkpoint(
    isClean: Bool = false, captured: (LogPlace) throws -> PageMapLive
  ) {
    do {
      _ = try database.checkpointer.run(isClean: isClean, captured: captured)
      statistics.withLock { statistics in
        statistics.count += 1
        statistics.lastNanoseconds = monotonicNanoseconds()
        statistics.lastError = nil
      }
    } catch let error as SQLiteError where error.primaryCode == SQLiteError.busy {
      // A reader is in the way; the next commits ask again.
      statistics.withLock { $0.lastNanoseconds = monotonicNanoseconds() }
    } catch {
      statistics.withLock { $0.lastError = "\(error)" }
      logger.error("a checkpoint failed", metadata: ["error": "\(error)"])
    }
  }

  /// Brings capture up to what was copied; on the writer's thread.
  private func capture(through place: LogPlace) throws -> PageMapLive {
    if database.tracker.isAhead(place) { try database.captureAll() }
    return database.map.live
  }

  private func noteRestart(_ salts: Salts) {
    statistics.withLock { statistics in
      if let last = statistics.salts, last != salts { statistics.restarts += 1 }
      statistics.salts = salts
    }
  }
}
