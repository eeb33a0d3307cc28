// Whether a copy that pushes is the present state, or has pushed the same before. A copy tells a
// generation and a count of frames, and may push only if that means the present state and no other.
// Source: docs/SYNC.md

import Store
import WALShip

extension SyncGenerations {
  /// Frames of a generation that a client pushed.
  struct PushedRun: Equatable {
    var start: Int
    var frames: [PushedFrames.Frame]
    var last: Int { start + frames.count - 1 }
  }

  /// A push whose outcome is not noted.
  struct Pending {
    var run: PushedRun
    /// Its answer is still awaited.
    var isOnItsWay = true
  }

  enum PushAnswer: Equatable {
    /// The copy is the present state: its pages may be sent to the primary.
    case current
    /// Frames up to this number are here already.
    case known(Int)
    /// The copy is not the present state, which has so many frames.
    case conflict(Int)
  }

  /// What is to be done with frames that a client has pushed.
  ///
  /// - Parameter wasApplied: whether a transaction left pages as these frames have them.
  mutating func push(
    _ push: PushedFrames, at position: Position, _ history: EpochHistory,
    wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool
  ) throws -> PushAnswer {
    // A copy of a former session needs no new one: it would push others out, and in the end itself.
    if known[push.generation] != nil {
      try settle(position, history, most: limits.generations * 5 / 4)
    }
    guard known[push.generation] != nil else {
      return try pushOfFormer(push, at: position, history, wasApplied)
    }
    try resolve(push.generation, position, wasApplied)
    guard let found = known[push.generation] else { throw Lost() }
    let count = found.pages.count
    if push.start > count + 1 {
      // It was told that frames are taken, of a push that was then broken off.
      guard push.start <= found.offered + 1 else { throw Lost() }
      return .known(count)
    }
    if push.start <= count {
      let end = min(push.last, count)
      return found.holds(push.frames.prefix(end - push.start + 1), from: push.start)
        ? .known(end) : .conflict(count)
    }
    guard found.through == position.txid, !found.isUneven || found.isContinued(by: push) else {
      return .conflict(count)
    }
    guard !found.pending.contains(where: \.isOnItsWay) else { throw Busy() }
    return .current
  }

  /// A generation of a former session has no list any more, and its frames are not read again.
  private mutating func pushOfFormer(
    _ push: PushedFrames, at position: Position, _ history: EpochHistory,
    _ wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool
  ) throws -> PushAnswer {
    guard let record = former.first(where: { $0.number == push.generation }),
      push.start <= Int(record.length) + 1
    else { throw Lost() }
    let count = Int(record.length)
    guard record.epoch == position.epoch, history.contains(epoch: record.epoch, txid: record.seen)
    else { return .conflict(count) }
    let known = pushes.last { $0.matches(push) }
    if push.start <= count {
      guard let known, known.last <= record.length else { return .conflict(count) }
      return .known(Int(known.last))
    }
    if record.seen == position.txid { return .current }
    guard let known, known.base == record.seen,
      wasApplied(push.frames.prefix(known.count), record.seen.next)
    else { return .conflict(count) }
    noteFormer(push.generation, length: known.last, seen: record.seen.next)
    return .known(Int(known.last))
  }

  private mutating func noteFormer(_ number: UInt32, length: UInt32, seen: TXID) {
    guard let index = former.firstIndex(where: { $0.number == number }) else { return }
    former[index].length = length
    former[index].seen = seen
  }

  // MARK: On their way

  /// Notes that a push is sent to the primary from a state.
  ///
  /// - Returns: whether it was sent from there before, so that a conflict can be its own doing.
  mutating func sending(_ push: PushedFrames, from base: TXID) -> Bool {
    let isRepeat = pushes.contains { $0.matches(push) && $0.base == base }
    known[push.generation]?.pending.removeAll { $0.run == push.run }
    known[push.generation]?.pending.append(Pending(run: push.run))
    pushes.removeAll { $0.number == push.generation && $0.start == push.start }
    pushes.append(
      SyncPushRecord(
        number: push.generation, start: UInt32(clamping: push.start),
        last: UInt32(clamping: push.last), hash: push.hash(ofFirst: push.frames.count), base: base))
    if pushes.count > SyncPushRecord.countMax {
      pushes.removeFirst(pushes.count - SyncPushRecord.countMax)
    }
    return isRepeat
  }

  /// Notes that a push has become the transaction after `base`.
  ///
  /// - Returns: false when the generation can no longer say so.
  mutating func sent(_ push: PushedFrames, from base: TXID) -> Bool {
    if let found = known[push.generation] {
      known[push.generation]?.pending.removeAll { $0.run == push.run }
      guard found.pages.count == push.start - 1, found.through == base else {
        return found.holds(push.frames[...], from: push.start)
      }
      known[push.generation]?.take(push.run)
      return true
    }
    guard let record = former.first(where: { $0.number == push.generation }) else { return false }
    if Int(record.length) == push.start - 1, record.seen == base {
      noteFormer(push.generation, length: UInt32(clamping: push.last), seen: base.next)
      return true
    }
    return Int(record.length) >= push.last && pushes.contains { $0.matches(push) }
  }

  /// Notes that a push has failed, or that nobody knows.
  mutating func notSent(_ push: PushedFrames, isKnown: Bool) {
    if isKnown { pushes.removeAll { $0.matches(push) } }
    guard var found = known[push.generation] else { return }
    if isKnown {
      found.pending.removeAll { $0.run == push.run }
    } else {
      for index in found.pending.indices where found.pending[index].run == push.run {
        found.pending[index].isOnItsWay = false
      }
      if found.pending.count > Self.pendingMax { found.pending.removeFirst() }
    }
    known[push.generation] = found
  }
  private static let pendingMax = 4

  /// Finds out what came of pushes that the database has gone on after.
  mutating func resolve(
    _ number: UInt32, _ position: Position,
    _ wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool
  ) throws {
    guard let found = known[number], !found.pending.isEmpty, found.through < position.txid else {
      return
    }
    guard !found.pending.contains(where: \.isOnItsWay) else { throw Busy() }
    let done = found.pending.last { wasApplied($0.run.frames[...], found.through.next) }
    known[number]?.pending = []
    if let done { known[number]?.take(done.run) }
  }
}

extension SyncGenerations.Generation {
  /// Whether these frames were pushed here.
  func holds(_ frames: ArraySlice<PushedFrames.Frame>, from start: Int) -> Bool {
    var next = start
    var rest = frames
    for run in pushed where run.start <= next && next <= run.last && !rest.isEmpty {
      let own = run.frames[(next - run.start)...].prefix(rest.count)
      guard own.elementsEqual(rest.prefix(own.count)) else { return false }
      next += own.count
      rest = rest.dropFirst(own.count)
    }
    return rest.isEmpty
  }

  /// Whether frames come right behind those that were pushed last, in the WAL of the same copy.
  func isContinued(by push: PushedFrames) -> Bool {
    guard let run = pushed.last, run.last == push.start - 1, let last = run.frames.last else {
      return false
    }
    return push.follows(last)
  }

  var hasManyPushed: Bool {
    pushed.reduce(0) { $0 + $1.frames.count } > SyncGenerations.pushedMax
  }

  /// Pushed frames become part of the list, as the transaction after `through`.
  mutating func take(_ run: SyncGenerations.PushedRun) {
    add(run.frames.map(\.pgno))
    pushed.append(run)
    through = through.next
    seen = max(seen, through)
  }
}

extension PushedFrames {
  var run: SyncGenerations.PushedRun { .init(start: start, frames: frames) }
}

extension SyncPushRecord {
  var count: Int { Int(last) - Int(start) + 1 }

  /// Whether these frames begin with those of the record.
  func matches(_ push: PushedFrames) -> Bool {
    number == push.generation && Int(start) == push.start && count > 0
      && count <= push.frames.count && hash == push.hash(ofFirst: count)
  }
}
