// Where a node stands, for everybody who must know it: readers that stamp their answers with a
// token, and requests that wait until this node has reached one.
//
// A snapshot is known by its place in the WAL, so this type turns places into positions. Two rules
// keep tokens true: a replica tells the tracker of a place *before* it publishes it, and on a
// primary a reader that saw a commit which has no transaction number yet waits until capture has
// given it one.

import Synchronization
import WALShip

/// The present position of a node. Safe to use from any thread.
public final class PositionTracker: @unchecked Sendable {  // all state is used under `lock`
  /// What a place in the WAL stands for.
  public enum Resolution: Equatable, Sendable {
    /// The state at that place, or a slightly later one: a token of it covers all that was seen.
    case position(Position)
    /// A commit that has no number yet.
    case ahead
  }

  public enum Target: Equatable, Sendable {
    case transaction(TXID)
    case place(LogPlace)
  }

  public struct WaiterID: Hashable, Sendable { let number: UInt64 }

  private struct Waiter {
    let id: UInt64
    let target: Target
    let wake: @Sendable () -> Void
  }

  private let lock = Mutex<Void>(())
  private var current: Position
  private var place: LogPlace
  private var history: EpochHistory
  private var promised: Position
  /// Places told of but not yet reached, and those passed last; newest at the end.
  private var known: [(place: LogPlace, position: Position)] = []
  private var waiters: [Waiter] = []
  private var nextWaiter: UInt64 = 0
  private static let knownMax = 32
  /// Generations of the WAL that are over; newest at the end.
  private var formerSalts: [Salts] = []
  private static let formerMax = 64

  public init(position: Position, place: LogPlace, history: EpochHistory) {
    current = position
    promised = position
    self.place = place
    self.history = history
  }

  public var position: Position { lock.withLock { _ in current } }
  public var epochs: EpochHistory { lock.withLock { _ in history } }
  /// Whether a client of this node was told of a write that `position` does not show yet.
  public func owes(after position: Position) -> Bool {
    lock.withLock { _ in promised.epoch == position.epoch && promised.txid > position.txid }
  }

  /// Notes that a client was told of a write before this node has it.
  public func promise(_ position: Position) {
    lock.withLock { _ in
      if position.epoch != promised.epoch || position.txid > promised.txid { promised = position }
    }
  }

  public var waiterCount: Int { lock.withLock { _ in waiters.count } }

  /// Says what a place stands for, before anybody can see it.
  public func announce(_ position: Position, at place: LogPlace) {
    lock.withLock { _ in
      known.append((place, position))
      if known.count > Self.knownMax { known.removeFirst(known.count - Self.knownMax) }
    }
  }

  /// Moves to a new position and wakes whoever waited for it.
  public func advance(to position: Position, at place: LogPlace, history: EpochHistory? = nil) {
    let woken: [Waiter] = lock.withLock { _ in
      if known.last?.place != place {
        known.append((place, position))
        if known.count > Self.knownMax { known.removeFirst(known.count - Self.knownMax) }
      }
      let epochChanged = position.epoch != current.epoch
      current = position
      if place.salts != self.place.salts {
        formerSalts.append(self.place.salts)
        if formerSalts.count > Self.formerMax { formerSalts.removeFirst() }
      }
      self.place = place
      if let history { self.history = history }
      guard !waiters.isEmpty else { return [] }
      let ready = waiters.filter { epochChanged || isReached($0.target) }
      if !ready.isEmpty { waiters.removeAll { epochChanged || isReached($0.target) } }
      return ready
    }
    for waiter in woken { waiter.wake() }
  }

  /// What a snapshot at `seen` must be told as.
  public func resolve(_ seen: LogPlace) -> Resolution {
    lock.withLock { _ in
      if seen == place { return .position(current) }
      if let match = known.last(where: { $0.place == seen }) { return .position(match.position) }
      return covers(seen) ? .position(current) : .ahead
    }
  }

  /// Whether a place lies after everything that this node knows.
  public func isAhead(_ seen: LogPlace) -> Bool { lock.withLock { _ in !covers(seen) } }

  /// The position at a place, if it is known to the transaction.
  public func exactPosition(at seen: LogPlace) -> Position? {
    lock.withLock { _ in
      seen == place ? current : known.last(where: { $0.place == seen })?.position
    }
  }

  /// The exact position at a place, waiting for capture to come by; never on an event loop.
  ///
  /// - Returns: nil when the place was passed without note, or is not reached in time.
  public func exactPosition(at seen: LogPlace, waitingMilliseconds: Int) -> Position? {
    if let position = exactPosition(at: seen) { return position }
    guard isAhead(seen) else { return nil }
    let found = Mutex<Position?>(nil)
    let gate = ThreadGate()
    // Waiters are woken place by place, on the thread that advances: what is exact then is exact.
    let id = whenReached(.place(seen)) { [self] in
      let position = exactPosition(at: seen)
      found.withLock { $0 = position }
      gate.open()
    }
    if !gate.wait(milliseconds: waitingMilliseconds) { cancel(id) }
    return found.withLock { $0 }
  }

  /// Calls `wake` once, when `target` is reached or the epoch changes; at once if that is so
  /// already.
  public func whenReached(_ target: Target, wake: @escaping @Sendable () -> Void) -> WaiterID {
    let (id, now): (UInt64, Bool) = lock.withLock { _ in
      nextWaiter += 1
      if isReached(target) { return (nextWaiter, true) }
      waiters.append(Waiter(id: nextWaiter, target: target, wake: wake))
      return (nextWaiter, false)
    }
    if now { wake() }
    return WaiterID(number: id)
  }

  public func cancel(_ id: WaiterID) {
    lock.withLock { _ in waiters.removeAll { $0.id == id.number } }
  }

  private func isReached(_ target: Target) -> Bool {
    switch target {
    case .transaction(let txid): current.txid >= txid
    case .place(let seen): covers(seen)
    }
  }

  /// Whether `seen` lies at or before the present place.
  ///
  /// A generation that is neither the present one nor a former one has commits that were not captured
  /// yet. Their salts tell nothing about the order: a connection that did not begin the generation
  /// itself writes random ones.
  private func covers(_ seen: LogPlace) -> Bool {
    if seen.salts == place.salts { return seen.frame <= place.frame }
    if formerSalts.contains(seen.salts) { return true }
    // A WAL is restarted only when everything before was captured, so an empty new one says nothing
    // new.
    let none = Salts(first: 0, second: 0)
    let isNext = seen.salts.first == place.salts.first &+ 1
    return seen.frame == 0 && (isNext || seen.salts == none || place.salts == none)
  }
}
