// Notices commits of other processes. The kernel tells when somebody writes to a -wal; whether that
// became a commit is then read from shared memory. Asleep while nobody writes, and one thread for
// all databases of a node.

import Glibc
import Synchronization
import WALShip

/// Watches WALs for commits that nobody in this process made. Safe to use from any thread.
public final class LogWatcher: @unchecked Sendable {  // `logs` is used under its lock
  /// One watched WAL.
  fileprivate struct WatchedLog {
    let watch: LogWatch
    let tracker: PositionTracker
    let notify: @Sendable () -> Void
    var told: LogPlace?
    var quiet = 0
    var unreadable = 0
  }

  /// Names a watched WAL.
  public struct Watched: Hashable, Sendable { fileprivate let descriptor: Int32 }

  private let events: Int32
  private let thread = DatabaseThread()
  private let logs = Mutex<[Watched: WatchedLog]>([:])
  private let isStopped = Atomic<Bool>(false)

  /// A safety net below the kernel's events: shared memory is looked at this often at least.
  private static let idleMilliseconds: Int32 = 100
  /// After an event the commit itself can come a little later, at the end of the writer's fsync:
  /// it is looked for at once, and then less and less often.
  private static let settleMilliseconds: [Int32] = [1, 1, 1, 1, 2, 2, 3, 4, 6, 8, 12, 16]
  fileprivate static let settleRounds = settleMilliseconds.count
  /// How often a header may be met in the middle of being written before its writer is taken for
  /// dead, if it does not hold the lock.
  fileprivate static let patience = 2

  /// - Throws: when the kernel gives no descriptor for its events.
  public init() throws(DiskError) {
    events = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
    guard events >= 0 else {
      throw DiskError(operation: .openLog, errorNumber: errno, path: "inotify")
    }
  }

  deinit { if events >= 0 { close(events) } }

  /// Begins to watch the WAL of a database.
  ///
  /// - Parameter notify: called on the watcher's thread when there are commits that are not
  ///   captured; now and then also without a reason.
  public func add(
    databasePath: String, watch: LogWatch, tracker: PositionTracker,
    notify: @escaping @Sendable () -> Void
  ) throws(DiskError) -> Watched {
    let path = databasePath + "-wal"
    let log = WatchedLog(watch: watch, tracker: tracker, notify: notify)
    // Under the lock: what is removed at this moment must not take the number of this one.
    let added: Result<Watched, DiskError> = logs.withLock { logs in
      let descriptor = inotify_add_watch(events, path, UInt32(IN_MODIFY))
      guard descriptor >= 0 else {
        return .failure(DiskError(operation: .openLog, errorNumber: errno, path: path))
      }
      let watched = Watched(descriptor: descriptor)
      logs[watched] = log
      return .success(watched)
    }
    return try added.get()
  }

  /// Watches a WAL no more; its `notify` may be called once again at this moment.
  public func remove(_ watched: Watched) {
    logs.withLock { logs in
      guard logs.removeValue(forKey: watched) != nil else { return }
      inotify_rm_watch(events, watched.descriptor)
    }
  }

  public func start() { thread.submit { [self] in run() } }

  public func stop() {
    isStopped.store(true, ordering: .releasing)
    thread.stop()
  }

  // MARK: On the thread

  private func run() {
    var pause = Self.pauseMicroseconds.lowerBound
    while !isStopped.load(ordering: .acquiring) {
      let roundsLeft = logs.withLock { $0.values.lazy.map(\.quiet).max() ?? 0 }
      let hasEvent = wait(
        milliseconds: roundsLeft > 0
          ? Self.settleMilliseconds[Self.settleRounds - roundsLeft] : Self.idleMilliseconds)
      let written = hasEvent ? drain() : []
      // Own commits cause events, too: give them a moment to be captured, and bundle a burst.
      if hasEvent { usleep(pause) }
      let calls = logs.withLock { logs in
        logs.keys.compactMap { watched -> (@Sendable () -> Void)? in
          let isNew = logs[watched]?.look(wasWritten: written.contains(watched)) ?? false
          return isNew ? logs[watched]?.notify : nil
        }
      }
      for call in calls { call() }
      // While it is all own commits, there is less and less need to look: each of them takes what
      // others have committed with it.
      if !hasEvent {
        pause = Self.pauseMicroseconds.lowerBound
      } else if calls.isEmpty {
        pause = min(2 * pause, Self.pauseMicroseconds.upperBound)
      }
    }
  }
  private static let pauseMicroseconds: ClosedRange<UInt32> = 300...2400

  private func wait(milliseconds: Int32) -> Bool {
    var descriptor = pollfd(fd: events, events: Int16(POLLIN), revents: 0)
    return poll(&descriptor, 1, milliseconds) > 0
  }

  /// Takes the events that wait.
  private func drain() -> Set<Watched> {
    var written: Set<Watched> = []
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
    defer { buffer.deallocate() }
    for _ in 0..<64 {
      let count = read(events, buffer.baseAddress, buffer.count)
      guard count > 0 else { break }
      var offset = 0
      while offset + MemoryLayout<inotify_event>.size <= count {
        let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
        written.insert(Watched(descriptor: event.wd))
        offset += MemoryLayout<inotify_event>.size + Int(event.len)
      }
    }
    return written
  }
}

extension LogWatcher.WatchedLog {
  /// - Returns: whether there is something to capture that was not told before.
  fileprivate mutating func look(wasWritten: Bool) -> Bool {
    if wasWritten {
      quiet = LogWatcher.settleRounds
    } else if quiet > 0 {
      quiet -= 1
    }
    guard let place = watch.place else {
      unreadable += 1
      if unreadable > LogWatcher.patience { _ = watch.mendHeader() }
      return false
    }
    unreadable = 0
    guard tracker.isAhead(place), place != told || quiet == 0 else { return false }
    told = place
    return true
  }
}
