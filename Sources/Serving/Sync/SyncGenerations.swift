// What embedded replicas of Turso's clients know as generations and frames. There is no log here
// to take frames from, so a generation is a list of pages: those that changed after its base, in
// the order in which somebody first asked. A frame is a place in that list, and is always filled
// with the page as it is now. Who has read the list to its end has the present state, because the
// pages that change later stand behind it.
// Source: docs/SYNC.md

import WALShip

/// The generations that a node has told its clients of. Confined to the thread of `SyncSource`.
struct SyncGenerations {
  struct Generation {
    var epoch: Epoch
    /// The transaction up to which `pages` is complete.
    var through: TXID
    var pages: [Pgno] = []
    var lastUse: UInt64 = 0

    init(epoch: Epoch, base: TXID) {
      self.epoch = epoch
      through = base
    }
  }

  /// Why a client cannot go on.
  enum Refusal: Error, Equatable {
    /// This node is behind the client, for now.
    case behind
    /// The client's history is not this node's, or cannot be told to be.
    case lost
  }

  /// A client fails at about 4,100 frames.
  static let framesMax = 3900
  static let generationsMax = 64
  private static let stepsMax: UInt32 = 7
  private static let blockBits: UInt64 = 8

  private(set) var known: [UInt32: Generation] = [:]
  private var uses: UInt64 = 0
  private let database: UInt32

  init(database: UInt32) { self.database = database }

  // MARK: Numbers

  /// A number says enough to go on after a restart: from bit 6 on the base in units of 256
  /// transactions, then a mark of the history, then steps that make it a higher one.
  static func number(
    base: TXID, epoch: Epoch, step: UInt32 = 1, database: UInt32
  ) -> UInt32? {
    guard let block = UInt32(exactly: base.rawValue >> blockBits), block < 1 << 26 else {
      return nil
    }
    return block << 6 | tag(epoch, database) << 3 | step
  }

  static func base(of number: UInt32) -> TXID { TXID(UInt64(number >> 6) << blockBits) }

  private static func tag(_ epoch: Epoch, _ database: UInt32) -> UInt32 {
    (epoch.rawValue ^ database ^ database >> 11) & 7
  }

  /// The generation that a client begins with.
  mutating func current(at position: Position) throws(Refusal) -> UInt32 {
    let base = position.txid
    guard var number = Self.number(base: base, epoch: position.epoch, database: database) else {
      throw .lost
    }
    while let found = known[number], number & 7 < Self.stepsMax,
      found.epoch != position.epoch || found.pages.count >= Self.framesMax
    { number += 1 }
    if known[number]?.epoch != position.epoch {
      insert(Generation(epoch: position.epoch, base: Self.base(of: number)), as: number)
    }
    return number
  }

  private mutating func insert(_ generation: Generation, as number: UInt32) {
    if known.count >= Self.generationsMax,
      let oldest = known.min(by: { $0.value.lastUse < $1.value.lastUse })?.key
    { known[oldest] = nil }
    known[number] = generation
    use(number)
  }

  private mutating func use(_ number: UInt32) {
    uses += 1
    known[number]?.lastUse = uses
  }

  // MARK: Pulls

  /// What a pull gets.
  enum Answer: Equatable {
    /// The pages of the frames asked for, and whether the list ends with them.
    case frames([Pgno], isEnd: Bool)
    /// Nothing more here: the same number, or one to go on with.
    case generation(UInt32)
  }

  /// Whether pages must be added before `pull`; then those changed since the transaction returned.
  mutating func needs(_ number: UInt32, at position: Position, history: EpochHistory) throws(Refusal)
    -> TXID?
  {
    guard Self.base(of: number) <= position.txid else { throw .behind }
    if let found = known[number] {
      guard found.epoch == position.epoch else { throw .lost }
      return found.through < position.txid ? found.through : nil
    }
    let mark = number >> 3 & 7
    let isOther = history.forks.contains { Self.tag($0.epoch, database) == mark }
    guard number & 7 > 0, mark == Self.tag(position.epoch, database), !isOther else {
      throw .lost
    }
    return nil
  }

  mutating func add(_ pages: [Pgno], to number: UInt32, through txid: TXID) {
    known[number]?.pages += pages
    known[number]?.through = txid
  }

  /// - Parameter start: counted from 1.
  mutating func pull(
    _ number: UInt32, from start: Int, count: Int, at position: Position
  ) throws(Refusal) -> Answer {
    guard start > 0, count > 0 else { throw .lost }
    guard let found = known[number] else {
      return .generation(try renew(number, at: position))
    }
    use(number)
    guard start <= found.pages.count + 1 else { throw .lost }
    guard start <= found.pages.count else {
      return .generation(close(number))
    }
    let end = min(found.pages.count, start - 1 + count)
    return .frames(Array(found.pages[start - 1..<end]), isEnd: end == found.pages.count)
  }

  /// Ends a generation that has become long; the next one begins where it ended.
  private mutating func close(_ number: UInt32) -> UInt32 {
    guard let found = known[number], found.pages.count >= Self.framesMax else { return number }
    guard
      let plain = Self.number(base: found.through, epoch: found.epoch, database: database),
      let next = (plain > number ? plain : Self.step(number)),
      known[next] == nil
    else { return number }
    insert(Generation(epoch: found.epoch, base: found.through), as: next)
    // Kept open: whoever is in the middle of it must end at the present state.
    return next
  }

  private static func step(_ number: UInt32) -> UInt32? {
    number & 7 < stepsMax ? number + 1 : nil
  }

  /// A generation that this process has not heard of: all that changed since its base is sent
  /// again, under a number that makes the client begin with frame 1.
  private mutating func renew(
    _ number: UInt32, at position: Position
  ) throws(Refusal) -> UInt32 {
    guard let next = Self.step(number) else { throw .lost }
    if known[next] == nil {
      insert(Generation(epoch: position.epoch, base: Self.base(of: number)), as: next)
    }
    return next
  }

  /// A client that begins: its frames can be listed anew, whatever process told it the number.
  mutating func begin(_ number: UInt32, at position: Position) {
    guard known[number] == nil else { return }
    insert(Generation(epoch: position.epoch, base: Self.base(of: number)), as: number)
  }
}
