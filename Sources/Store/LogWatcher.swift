// Notices commits of other processes. The kernel tells when somebody writes to the -wal; whether
// that became a commit is then read from shared memory. Asleep while nobody writes.

import Glibc
import Synchronization
import WALShip

/// Watches a WAL for commits that nobody in this process made.
public final class LogWatcher: @unchecked Sendable {  // one atomic flag
  private let watch: LogWatch
  private let tracker: PositionTracker
  private let notify: @Sendable () -> Void
  private let events: Int32
  private let thread = DatabaseThread()
  private let isStopped = Atomic<Bool>(false)

  /// A safety net below the kernel's events: shared memory is looked at this often at least.
  private static let idleMilliseconds: Int32 = 100
  /// After an event the commit itself can come a little later, at the end of the writer's fsync.
  private static let settleRounds = 40
  /// How often a header may be met in the middle of being written before its writer is taken for
  /// dead, if it does not hold the lock.
  private static let patience = 2

  /// - Parameter notify: called on the watcher's thread when there are commits that are not
  ///   captured.
  public init(
    databasePath: String, watch: LogWatch, tracker: PositionTracker,
    notify: @escaping @Sendable () -> Void
  ) throws(DiskError) {
    self.watch = watch
    self.tracker = tracker
    self.notify = notify
    events = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
    let path = databasePath + "-wal"
    guard events >= 0, inotify_add_watch(events, path, UInt32(IN_MODIFY)) >= 0 else {
      throw DiskError(operation: .openLog, errorNumber: errno, path: path)
    }
  }

  deinit { close(events) }

  public func start() { thread.submit { [self] in run() } }

  public func stop() {
    isStopped.store(true, ordering: .releasing)
    thread.stop()
  }

  private func run() {
    var told: LogPlace?
    var quiet = 0
    var unreadable = 0
    while !isStopped.load(ordering: .acquiring) {
      let hasEvent = wait(milliseconds: quiet > 0 ? 1 : Self.idleMilliseconds)
      if hasEvent {
        drain()
        quiet = Self.settleRounds
        // Own commits cause events, too: give them a moment to be captured, and bundle a burst.
        usleep(300)
      } else if quiet > 0 {
        quiet -= 1
      }
      guard let place = watch.place else {
        unreadable += 1
        if unreadable > Self.patience { _ = watch.mendHeader() }
        continue
      }
      unreadable = 0
      guard tracker.isAhead(place) else { continue }
      if place != told || quiet == 0 {
        told = place
        notify()
      }
    }
  }

  private func wait(milliseconds: Int32) -> Bool {
    var descriptor = pollfd(fd: events, events: Int16(POLLIN), revents: 0)
    return poll(&descriptor, 1, milliseconds) > 0
  }

  private func drain() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    for _ in 0..<64 where read(events, &buffer, buffer.count) > 0 {}
  }
}
