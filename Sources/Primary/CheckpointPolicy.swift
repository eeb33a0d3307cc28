// When the WAL of a primary is copied into its file. Most of the work is done beside the writer;
// only when commits come so densely that the WAL never stands still is the rest copied between two
// of them.

import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// Runs a primary's checkpoints.
final class CheckpointPolicy: Sendable {
  let record: CheckpointRecord
  private let database: PrimaryDatabase
  private let writerThread: DatabaseThread
  private let timers: any EventLoop
  private let thread = DatabaseThread()
  /// Who sets it has the checkpointer for itself.
  private let isRunning = Atomic<Bool>(false)
  /// The last checkpoint could not copy everything: a reader was in the way.
  private let isBlocked = Atomic<Bool>(false)
  private let isRetryPlanned = Atomic<Bool>(false)
  /// The generation of the WAL when last looked at.
  private let salts = Mutex<Salts?>(nil)

  init(
    database: PrimaryDatabase, writerThread: DatabaseThread, timers: any EventLoop,
    record: CheckpointRecord
  ) {
    self.database = database
    self.writerThread = writerThread
    self.timers = timers
    self.record = record
  }

  private var limits: CheckpointLimits { record.limits }

  /// Looks whether a checkpoint is due. Called after commits, on any thread.
  func consider() {
    guard let place = database.logWatch.place else { return }
    noteGeneration(place.salts)
    guard isDue(place), !isRunning.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let accepted = thread.submit { [self] in
      run()
      isRunning.store(false, ordering: .releasing)
    }
    if !accepted { isRunning.store(false, ordering: .releasing) }
  }

  private func noteGeneration(_ present: Salts) {
    let isNew = salts.withLock { salts in
      defer { salts = present }
      return salts != nil && salts != present
    }
    if isNew { record.noteRestart() }
  }

  private func isDue(_ place: LogPlace) -> Bool {
    let copied = min(database.logWatch.copiedFrames, place.frame)
    let left = place.frame - copied
    // Where a reader is in the way: now and then, not with each commit.
    if left >= limits.framesMin { return !isBlocked.load(ordering: .relaxed) || record.mayRetry }
    return place.frame >= limits.framesMax && left > 0 && record.mayRetry
  }

  /// On the checkpoint thread.
  private func run() {
    checkpoint { [self] place in
      try writerThread.sync { [self] in try capture(through: place) }
    }
    // Still long: commits came faster than they were copied, or there are readers all the time.
    guard database.logWatch.frames >= limits.framesMax else { return }
    do {
      switch try writerThread.sync({ [self] in try finishBetweenCommits() }) {
      case true?: record.notePin(false)
      case false?:
        record.notePin(true)
        retryLater()
      case nil: break
      }
    } catch is ThreadStopped {
      return
    } catch { record.noteFailure(error) }
  }

  /// On the writer's thread: copies the rest while no program can commit, so that the next commit
  /// begins the WAL anew.
  ///
  /// - Returns: false when readers are in the way, nil when it cannot be done now.
  private func finishBetweenCommits() throws -> Bool? {
    guard database.connection.isAutocommit else { return nil }
    return try database.checkpointer.finish(waitingMilliseconds: record.takeWait()) {
      [self] in try capture(through: $0)
    }
  }

  /// When nothing more is committed, nobody else looks whether the reader has left.
  private func retryLater() {
    guard !isRetryPlanned.exchange(true, ordering: .relaxed) else { return }
    timers.scheduleTask(in: .seconds(1)) { [weak self] in
      self?.isRetryPlanned.store(false, ordering: .relaxed)
      self?.consider()
    }
  }

  /// The last checkpoint of this run, on the writer's thread; a complete one lets the next start
  /// trust the file.
  func finish() {
    checkpoint(isClean: true) { [self] in try capture(through: $0) }
  }

  /// Waits for the checkpoint that runs beside the writer; none begins afterwards.
  func stop() async {
    try? await thread.run {}
    thread.stop()
  }

  private func checkpoint(
    isClean: Bool = false, captured: (LogPlace) throws -> PageMapLive
  ) {
    do {
      let outcome = try database.checkpointer.run(isClean: isClean, captured: captured)
      isBlocked.store(!outcome.isComplete, ordering: .relaxed)
      record.noteRun()
    } catch is ThreadStopped {
      return
    } catch { record.noteFailure(error) }
  }

  /// Brings capture up to what was copied; on the writer's thread.
  private func capture(through place: LogPlace) throws -> PageMapLive {
    if database.tracker.isAhead(place) { try database.captureAll() }
    return database.map.live
  }
}
