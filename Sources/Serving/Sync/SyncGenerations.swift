// What embedded replicas of Turso's clients know as generations and frames. There is no log here
// to take frames from, so a generation is a list of pages: those that changed after its base, in
// the order in which somebody first asked. A frame is a place in that list, and is always filled
// with the page as it is now. Who has read the list to its end has the present state, because the
// pages that change later stand behind it.
//
// A client knows a number and a count of frames, and goes from one number to the next. What it holds
// follows from that as long as the list is there, and later from what was written down of it.
// Source: docs/SYNC.md

import Store
import WALShip

/// The generations that a node has told its clients of. Confined to the thread of `SyncSource`.
struct SyncGenerations {
  struct Generation {
    var base: TXID
    /// The transaction up to which `pages` is complete.
    var through: TXID
    /// The last transaction that was handed out.
    var seen: TXID
    var pages: [Pgno] = []
    /// Where clients in the middle of a list will go on, and how many of them.
    var unfinished: [Int: Int] = [:]
    /// A client in the middle of a list got a page a second time.
    var isUneven = false
    /// Which of the frames clients pushed.
    var pushed: [PushedRun] = []
    /// Pushes that were sent to the primary from `through`, and whose outcome is not noted.
    var pending: [Pending] = []
    /// The last frame that a client was told is taken, although it was not yet.
    var offered = 0

    init(base: TXID) {
      self.base = base
      through = base
      seen = base
    }
  }

  /// Nobody can say what the client holds, or that it is part of this history: it must begin anew.
  struct Lost: Error, Equatable {}

  /// What can be said depends on a push that is on its way: ask again.
  struct Busy: Error, Equatable {}

  /// What a pull gets.
  enum Answer: Equatable {
    /// The pages of the frames asked for, and whether the list ends with them.
    case frames([Pgno], isEnd: Bool)
    /// Nothing more here: the same number, or one to go on to.
    case generation(UInt32)
  }

  struct Limits {
    /// A client fails at about 4,100 frames.
    var frames = 3900
    /// A client that begins is not sent more than these that its copy holds already.
    var framesAtStart = 256
    var generations = 44
    var records = SyncRecords.countMax
  }

  /// Places in all lists but the longest, 4 bytes each.
  static let placesMax = 4 << 20
  /// Frames of one generation that clients pushed, 24 bytes each.
  static let pushedMax = 1 << 18

  /// Those of the present session, whose lists are there. Their numbers have no gaps.
  var known: [UInt32: Generation] = [:]
  private(set) var epoch = Epoch(0)
  /// Those of former sessions. A session ends with the process, and with the epoch.
  var former: [SyncRecord]
  /// The last pushes of all sessions.
  var pushes: [SyncPushRecord]
  private(set) var last: UInt32
  /// Where clients of former sessions go on.
  private(set) var first: UInt32 = 0
  /// Copies of generations that were forgotten can stand at numbers up to this one, on their way.
  private(set) var floor: UInt32
  /// The numbers that clients on their way will ask for next, and how many of them.
  private var awaited: [UInt32: Int] = [:]
  let limits: Limits

  init(
    last: UInt32, floor: UInt32, former: [SyncRecord], pushes: [SyncPushRecord] = [],
    limits: Limits = Limits()
  ) {
    self.pushes = pushes
    self.last = last
    self.floor = floor
    self.former = former
    self.limits = limits
  }

  /// What must be written down.
  var records: [SyncRecord] {
    let present = known.map { number, generation in
      SyncRecord(
        number: number, epoch: epoch, base: generation.base, seen: generation.seen,
        length: UInt32(clamping: generation.pages.count + (generation.isUneven ? 1 : 0)))
    }
    return (former + present).sorted { $0.number < $1.number }
  }

  // MARK: Sessions

  /// Ends a session whose lists mean nothing any more, or have become too many, and begins one.
  mutating func settle(
    _ position: Position, _ history: EpochHistory, most: Int
  ) throws(Lost) {
    let sizes = known.values.map(\.pages.count)
    let places = sizes.reduce(0, +) - (sizes.max() ?? 0)
    let isAhead = known.values.contains { $0.seen > position.txid }
    if !known.isEmpty,
      epoch != position.epoch || isAhead || places > Self.placesMax
        || known.count >= most || known.values.contains(where: \.hasManyPushed)
    {
      former = records
      known = [:]
    }
    guard known.isEmpty else { return }
    // Only where every client that may come here holds a part of this history, does it get what
    // changed since. Else it gets all pages.
    let isOurs = former.allSatisfy {
      history.contains(epoch: $0.epoch, txid: $0.seen) && $0.seen <= position.txid
    }
    let base = isOurs ? former.map(\.base).reduce(position.txid, min) : .zero
    let step: UInt32 = last == 0 ? Chance.number(in: 1...1 << 20) : Chance.number(in: 1...16)
    guard last < .max - 4096 else { throw Lost() }
    epoch = position.epoch
    first = last + step
    awaited = [:]
    try insert(Generation(base: base))
    if !former.isEmpty {
      // Who comes here from a former session holds the base, or more.
      known[last]?.add([Pgno(1)])
      try insert(Generation(base: position.txid))
    }
  }

  /// Begins the next generation. The first one leaves a gap: copies of a file of an earlier moment
  /// then hardly ever give one number to two lists.
  private mutating func insert(_ generation: Generation) throws(Lost) {
    guard last < .max - 1 else { throw Lost() }
    last = known.isEmpty ? first : last + 1
    known[last] = generation
    while former.count + known.count > limits.records, !former.isEmpty {
      former.removeFirst()
      floor = last
    }
  }

  // MARK: Beginning

  /// The generation that a client begins with, at the position of a snapshot.
  ///
  /// - Parameter changed: the pages that changed after a transaction.
  mutating func newest(
    at position: Position, _ history: EpochHistory,
    wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool = { _, _ in false },
    changed: (TXID) -> [Pgno]
  ) throws -> UInt32 {
    try settle(position, history, most: limits.generations)
    guard let found = known[last] else { return last }
    // Copies that begin at the start of a list are all the same state, so that they can push at
    // once. When that takes too many generations, they share one, and pull before they push.
    let isFresh = found.pages.isEmpty && found.base == position.txid
    let mayBegin = known.count < limits.generations / 2
    if !isFresh, mayBegin || found.pages.count > limits.framesAtStart {
      try resolve(last, position, wasApplied)
      extend(last, position, changed)
      try insert(Generation(base: position.txid))
    }
    return last
  }

  /// Notes that somebody got a whole copy, which belongs before the first frame of a generation. One
  /// more frame makes the count of frames tell that copy from the state before, unless that is the
  /// same one.
  mutating func copied(_ number: UInt32, at position: Position) throws(Lost) {
    guard let found = known[number], epoch == position.epoch, found.base <= position.txid else {
      throw Lost()
    }
    known[number]?.seen = max(found.seen, position.txid)
    if !found.pages.isEmpty || found.base < position.txid {
      known[number]?.add([Pgno(1)])
    }
  }

  // MARK: Pulls

  /// - Parameter start: the first frame asked for, counted from 1.
  mutating func pull(
    _ number: UInt32, from start: Int, count: Int, at position: Position,
    _ history: EpochHistory,
    wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool = { _, _ in false },
    changed: (TXID) -> [Pgno]
  ) throws -> Answer {
    guard start > 0, count > 0 else { throw Lost() }
    // Later than for those who begin: a session is not to end under a copy that was just made.
    try settle(position, history, most: limits.generations * 5 / 4)
    guard known[number] != nil else { return .generation(try rejoin(number, from: start)) }
    try resolve(number, position, wasApplied)
    guard let found = known[number] else { throw Lost() }
    guard start <= found.pages.count + 1 else { throw Lost() }
    // Who has read a list to its end holds a commit, and goes on elsewhere before it gets too long:
    // even if pages change faster than it can ask.
    let isAtEnd = start == found.pages.count + 1 && !found.pages.isEmpty
    let more = isAtEnd && found.through < position.txid ? changed(found.through).count : 0
    let isLong = found.pages.count + more > limits.frames
    if isAtEnd, isLong || found.isUneven, let next = try successor(number) {
      // As after a whole copy.
      let isBase = known[next].map { $0.pages.isEmpty && $0.base == found.through } ?? false
      if !isBase { known[next]?.add([Pgno(1)]) }
      return .generation(next)
    }
    extend(number, position, changed)
    guard let frames = known[number]?.frames(from: start, count: count) else {
      return .generation(number)
    }
    return .frames(frames.pages, isEnd: frames.isEnd)
  }

  private mutating func extend(
    _ number: UInt32, _ position: Position, _ changed: (TXID) -> [Pgno]
  ) {
    guard var found = known.removeValue(forKey: number) else { return }
    if found.through < position.txid {
      found.add(changed(found.through))
      found.through = position.txid
    }
    found.seen = max(found.seen, position.txid)
    known[number] = found
  }

  /// The generation after one that was read to its end; nil while its clients may lack something
  /// that the next one takes for granted.
  private mutating func successor(_ number: UInt32) throws(Lost) -> UInt32? {
    guard let found = known[number], number < last else {
      if let found = known[number] { try insert(Generation(base: found.through)) }
      return last
    }
    guard let next = known[number + 1], next.base <= found.through else { return nil }
    return number + 1
  }

  /// Where a client of a former session goes on. It asks for all numbers between, too.
  private mutating func rejoin(_ number: UInt32, from start: Int) throws(Lost) -> UInt32 {
    guard number < first else { throw Lost() }
    if start > 1 {
      guard let record = former.first(where: { $0.number == number }),
        start <= Int(record.length) + 1
      else { throw Lost() }
    } else if let count = awaited.removeValue(forKey: number) {
      if count > 1 { awaited[number] = count - 1 }
    } else {
      // Its way may have begun anywhere below.
      guard number > floor, let oldest = former.first?.number, number >= oldest else {
        throw Lost()
      }
    }
    awaited[number + 1, default: 0] += 1
    return first
  }
}
