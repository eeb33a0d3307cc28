// Memory of databases that were closed: given back to the system when it is quiet, so that a node on
// which many have been open once is as small as one on which they never were.

import Store
import Synchronization

/// When to give memory back. Safe to use from any thread.
final class FreedMemory: Sendable {
  private struct State {
    /// Databases that were closed since memory was given back.
    var closed = 0
    /// So many of them at the last look.
    var seen = 0
    var givenNanoseconds: UInt64 = 0
  }

  private let state = Mutex(State())
  /// On a node that never is quiet, it is done so often.
  private static let pauseNanoseconds: UInt64 = 10_000_000_000

  func noteClosed() { state.withLock { $0.closed += 1 } }

  /// To be called now and then: gives memory back, beside the caller, if databases were closed and no
  /// further one was since the last call.
  func look() {
    let now = monotonicNanoseconds()
    let isDue = state.withLock { state in
      guard state.closed > 0 else { return false }
      guard state.closed == state.seen || now - state.givenNanoseconds >= Self.pauseNanoseconds
      else {
        state.seen = state.closed
        return false
      }
      state = State(givenNanoseconds: now)
      return true
    }
    guard isDue else { return }
    let thread = DatabaseThread()
    thread.submit { HeapMemory.giveBack() }
    thread.stop()
  }
}
