// A line that has begun must end in time, so that nobody holds a connection with half a request.
// Connections without a request may be idle for as long as they like.

import NIOCore
import Store

/// Watches the incomplete line of one connection. It is used on its loop alone.
final class LineDeadline {
  private let loop: any EventLoop
  private let milliseconds: Int64
  private var partial: (number: UInt64, since: UInt64)?
  private var hasAlarm = false
  private var onMissed: (() -> Void)?

  init(loop: any EventLoop, milliseconds: Int) {
    self.loop = loop
    self.milliseconds = Int64(milliseconds)
  }

  /// To be called when the session has done what it could.
  ///
  /// - Parameters:
  ///   - line: the number of the line that has begun; nil when none has.
  ///   - onMissed: called if that one takes too long.
  func note(line: UInt64?, onMissed: @escaping () -> Void) {
    guard let line else {
      partial = nil
      self.onMissed = nil
      return
    }
    guard partial?.number != line else { return }
    partial = (line, monotonicNanoseconds())
    self.onMissed = onMissed
    guard !hasAlarm else { return }
    hasAlarm = true
    check(after: milliseconds)
  }

  func cancel() {
    partial = nil
    onMissed = nil
  }

  /// One alarm serves all lines: it is not set anew for each.
  private func check(after delay: Int64) {
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .milliseconds(delay)) { bound.value.alarm() }
  }

  private func alarm() {
    guard let partial else {
      hasAlarm = false
      return
    }
    let age = Int64((monotonicNanoseconds() &- partial.since) / 1_000_000)
    if age < milliseconds { return check(after: milliseconds - age) }
    hasAlarm = false
    let missed = onMissed
    cancel()
    missed?()
  }
}
