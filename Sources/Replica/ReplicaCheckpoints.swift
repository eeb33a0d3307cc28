// When the WAL of a replica is copied into its file and begun anew. Most of it is copied beside the
// applier; the applier itself copies only what came meanwhile, so that it never stands still for
// long.

import Logging
import NIOCore
import Serving
import Store
import Synchronization

/// Runs a replica's checkpoints.
final class ReplicaCheckpoints: Sendable {
  let record: CheckpointRecord
  private let database: ReplicaDatabase
  private let loop: any EventLoop
  private let thread = DatabaseThread()
  /// From the start of a copy to the end of the restart that follows it on the loop.
  private let isRunning = Atomic<Bool>(false)
  /// A reader was in the way the last time.
  private let isBlocked = Atomic<Bool>(false)
  private let isRetryPlanned = Atomic<Bool>(false)

  init(database: ReplicaDatabase, loop: any EventLoop, framesMin: UInt32, logger: Logger) {
    self.database = database
    self.loop = loop
    record = CheckpointRecord(limits: CheckpointLimits(framesMin: framesMin), logger: logger)
  }

  private var limits: CheckpointLimits { record.limits }

  /// Looks whether a checkpoint is due. Called after a publish, on the applier's loop.
  func consider() {
    guard database.injector.frameCount >= limits.framesMin,
      !isBlocked.load(ordering: .relaxed) || record.mayRetry,
      !isRunning.exchange(true, ordering: .acquiringAndReleasing)
    else { return }
    let accepted = thread.submit { [self] in
      do {
        // Nothing is copied while a checkpoint of another program runs: it comes to the same.
        if try database.copyLog() != nil { record.noteRun() }
      } catch { record.noteFailure(error) }
      loop.execute { [self] in restart() }
    }
    if !accepted { isRunning.store(false, ordering: .releasing) }
  }

  /// On the applier's loop: copies the rest and begins the WAL anew, unless a reader is in the way.
  private func restart() {
    defer { isRunning.store(false, ordering: .releasing) }
    let isLong = database.injector.frameCount >= limits.framesMax
    do {
      let restarted = try database.restartLog(
        fileFramesMax: limits.framesMax, waitingMilliseconds: isLong ? record.takeWait() : 0)
      isBlocked.store(!restarted, ordering: .relaxed)
      if restarted { return record.noteRestart() }
    } catch {
      isBlocked.store(true, ordering: .relaxed)
      record.noteFailure(error)
    }
    guard isLong else { return }
    // In the middle of a catch-up it is not a reader that is in the way.
    if !database.injector.isBatchOpen { record.notePin(true) }
    retryLater()
  }

  /// When nothing more is applied, nobody else looks whether the reader has left.
  private func retryLater() {
    guard !isRetryPlanned.exchange(true, ordering: .relaxed) else { return }
    loop.scheduleTask(in: .seconds(1)) { [weak self] in
      self?.isRetryPlanned.store(false, ordering: .relaxed)
      self?.consider()
    }
  }

  /// Waits for the checkpoint that runs; what it leaves on the loop is done before anything that is
  /// submitted there later.
  func stop() async {
    try? await thread.run {}
    thread.stop()
  }
}

/// The files of a replica, while none of them is open.
enum ReplicaFiles {
  /// Removes the database and everything that belongs to it.
  static func remove(_ path: String) throws {
    for suffix in ["", "-wal", "-shm", "-pagemap", "-incoming", "-incoming-pagemap"] {
      try Disk.remove(path + suffix)
    }
  }

  /// A first copy that was cut off between the renames of its map and its file.
  static func completeRename(_ path: String) throws {
    guard !Disk.exists(path), Disk.exists(path + "-incoming"), Disk.exists(path + "-pagemap"),
      !Disk.exists(path + "-incoming-pagemap")
    else { return }
    try Disk.rename(path + "-pagemap", to: path + "-incoming-pagemap")
  }
}
