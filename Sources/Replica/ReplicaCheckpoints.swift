// When the WAL of a replica is copied into its file and begun anew. Most of it is copied beside the
// applier; the applier itself copies only what came meanwhile, so that it never stands still for
// long.

import Logging
import NIOCore
import Store
import Synchronization
import WALShip

/// Runs a replica's checkpoints.
final class ReplicaCheckpoints: Sendable {
  struct Statistics: Equatable, Sendable {
    var count = 0
    var restarts = 0
    var lastNanoseconds: UInt64?
    var lastError: String?
  }

  private let database: ReplicaDatabase
  private let loop: any EventLoop
  private let checkpointer: ReplicaCheckpointer
  private let thread = DatabaseThread()
  private let logger: Logger
  private let framesMin: UInt32
  private let isRunning = Atomic<Bool>(false)
  private let statistics = Mutex(Statistics())

  /// A -wal file that grew beyond this is cut when it begins anew.
  private static let fileBytesMax = 64 << 20

  init(
    database: ReplicaDatabase, loop: any EventLoop, framesMin: UInt32, logger: Logger
  ) throws {
    self.database = database
    self.loop = loop
    self.framesMin = framesMin
    self.logger = logger
    checkpointer = try ReplicaCheckpointer(path: database.path)
  }

  var snapshot: Statistics { statistics.withLock { $0 } }

  /// Looks whether a checkpoint is due. Called after a publish, on the applier's loop.
  func consider() {
    guard database.injector.frameCount >= framesMin,
      !isRunning.exchange(true, ordering: .acquiringAndReleasing)
    else { return }
    let accepted = thread.submit { [self] in
      do {
        _ = try checkpointer.run()
        statistics.withLock { statistics in
          statistics.count += 1
          statistics.lastNanoseconds = monotonicNanoseconds()
          statistics.lastError = nil
        }
      } catch { note(error) }
      loop.execute { [self] in restart() }
    }
    if !accepted { isRunning.store(false, ordering: .releasing) }
  }

  /// On the applier's loop: copies the rest and begins the WAL anew, unless a reader is in the way.
  private func restart() {
    defer { isRunning.store(false, ordering: .releasing) }
    do {
      let bytes =
        Int(database.injector.frameCount) * (database.pageSize.bytes + FrameHeader.byteCount)
      if try database.restartLog(truncate: bytes > Self.fileBytesMax) {
        statistics.withLock { $0.restarts += 1 }
      }
    } catch { note(error) }
  }

  private func note(_ error: any Error) {
    if let error = error as? SQLiteError, error.primaryCode == SQLiteError.busy { return }
    statistics.withLock { $0.lastError = "\(error)" }
    logger.error("a checkpoint failed", metadata: ["error": "\(error)"])
  }

  func stop() { thread.stop() }
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
