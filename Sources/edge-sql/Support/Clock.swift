// Time for measuring and waiting.

import Glibc

/// The monotonic clock, in nanoseconds from some fixed point.
enum MonotonicClock {
  static var nowNanoseconds: UInt64 { read(CLOCK_MONOTONIC) }

  static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  static func sleep(milliseconds: Int) {
    var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    nanosleep(&time, nil)
  }
}

/// A point in time until which something may take; it may also be never.
struct Deadline: Sendable {
  private let nanoseconds: UInt64?

  static let never = Deadline(nanoseconds: nil)

  static func after(milliseconds: Int) -> Deadline {
    let now = MonotonicClock.nowNanoseconds
    return Deadline(nanoseconds: now + UInt64(max(0, milliseconds)) * 1_000_000)
  }

  /// What `poll` takes: at most `capMilliseconds`, 0 when the time is over.
  func remainingMilliseconds(capMilliseconds: Int) -> Int {
    guard let nanoseconds else { return capMilliseconds }
    let now = MonotonicClock.nowNanoseconds
    guard now < nanoseconds else { return 0 }
    return min(capMilliseconds, Int((nanoseconds - now + 999_999) / 1_000_000))
  }

  var isOver: Bool { nanoseconds.map { MonotonicClock.nowNanoseconds >= $0 } ?? false }
}

/// Ctrl-C for commands that must put something in order before they end.
///
/// The signal is blocked and asked for, so that no handler runs anywhere.
enum Interrupt {
  /// What may ask a command to end. Only those that are blocked ever arrive here.
  static let all = [SIGINT, SIGTERM, SIGHUP]

  /// Call this before any thread is started: threads inherit the mask.
  static func block(_ signals: [Int32] = [SIGINT]) {
    var set = set(signals)
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Whether Ctrl-C was pressed, or another of the blocked signals came, since the last call.
  static func take() -> Bool {
    var set = set(all)
    var none = timespec()
    return sigtimedwait(&set, nil, &none) > 0
  }

  private static func set(_ signals: [Int32]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in signals { sigaddset(&set, signal) }
    return set
  }
}
