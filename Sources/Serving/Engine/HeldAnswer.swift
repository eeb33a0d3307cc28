// An answer that waits for something, but not for ever.

import NIOCore
import Synchronization

/// An answer that is given once, by whoever comes first.
public final class HeldAnswer: Sendable {
  private struct State {
    var isReleased = false
    var timer: Scheduled<Void>?
  }
  private let state = Mutex(State())
  private let answer: @Sendable () -> Void
  public init(answer: @escaping @Sendable () -> Void) { self.answer = answer }

  public func release() {
    let (isFirst, timer) = state.withLock { state in
      defer { state.isReleased = true }
      return (!state.isReleased, state.timer)
    }
    timer?.cancel()
    if isFirst { answer() }
  }

  /// Notes the timer that releases the answer at the latest.
  public func release(by timer: Scheduled<Void>) {
    let isOver = state.withLock { state in
      state.timer = timer
      return state.isReleased
    }
    if isOver { timer.cancel() }
  }
}
