// A pull of `/pull-updates` that waits until there is something newer than what its client has.
// It takes no thread and no snapshot meanwhile, and the database may be closed: the pull ends with
// that.
// Source: docs/SYNC.md

import NIOCore
import Store
import Synchronization
import WALShip

/// One that waits. It is used on the call's loop alone.
final class SyncPoll {
  /// How many wait in this process.
  private static let count = Atomic<Int>(0)
  static var waiting: Int { count.load(ordering: .relaxed) }

  enum End {
    /// There is something newer.
    case newer
    /// Time is over, the node stops, or the database is closed.
    case unchanged
    /// The same, and the client was told of a write that has not arrived.
    case behind
  }

  private let call: HTTPCall
  private let source: SyncSource
  private let position: Position
  private var completion: ((End) -> Void)?
  private var newer: PositionTracker.WaiterID?
  private var closing: SyncSource.StopID?
  private var alarm: Scheduled<Void>?

  /// Waits, when the client has the present state.
  ///
  /// - Parameters:
  ///   - position: the present one, which the client has.
  ///   - completion: called on the loop, and not when the client leaves. Until then the call has no
  ///     database.
  /// - Returns: false when it should be answered now.
  static func wait(
    _ call: HTTPCall, _ source: SyncSource, at position: Position, milliseconds: UInt64,
    completion: @escaping (End) -> Void
  ) -> Bool {
    let limits = call.node.limits
    let milliseconds = min(milliseconds, UInt64(max(0, limits.pullWaitMillisecondsMax)))
    guard milliseconds > 0, !call.isDraining else { return false }
    guard count.add(1, ordering: .relaxed).newValue <= limits.pullWaitersMax else {
      count.subtract(1, ordering: .relaxed)
      return false
    }
    SyncPoll(call, source, position, completion).start(Int64(milliseconds))
    return true
  }

  private init(
    _ call: HTTPCall, _ source: SyncSource, _ position: Position,
    _ completion: @escaping (End) -> Void
  ) {
    self.call = call
    self.source = source
    self.position = position
    self.completion = completion
  }

  private func start(_ milliseconds: Int64) {
    call.onGone = { self.cancel() }
    call.onDrain = { self.ends() }
    call.giveBack()
    let bound = NIOLoopBound(self, eventLoop: call.loop)
    let loop = call.loop
    alarm = loop.scheduleTask(in: .milliseconds(milliseconds)) { bound.value.ends() }
    newer = source.tracker.whenReached(.transaction(position.txid.next)) {
      loop.execute { bound.value.finish(.newer) }
    }
    closing = source.whenStopped { loop.execute { bound.value.ends() } }
  }

  private func ends() { finish(source.tracker.owes(after: position) ? .behind : .unchanged) }

  private func finish(_ end: End) {
    guard let completion else { return }
    cancel()
    completion(end)
  }

  private func cancel() {
    guard completion != nil else { return }
    completion = nil
    call.onGone = nil
    call.onDrain = nil
    alarm?.cancel()
    if let newer { source.tracker.cancel(newer) }
    if let closing { source.cancel(closing) }
    Self.count.subtract(1, ordering: .relaxed)
  }
}
