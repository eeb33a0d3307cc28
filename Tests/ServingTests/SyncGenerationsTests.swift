// Embedded replicas against a model of a database: whatever comes between pulls, a copy that is told
// it is complete is the database, or its client is told to begin anew.

import EdgeTesting
import Testing
import WALShip

@testable import Serving
@testable import Store

@Suite struct SyncGenerationsTests {
  /// A database whose pages are numbers, with the transaction that changed each last.
  private struct Model {
    var pages = (1...200).map { UInt64($0) }
    var changed = [TXID](repeating: TXID(1), count: 200)
    var txid = TXID(1)
    var history = EpochHistory(current: Epoch(1))
    /// The states before, newest at the end.
    private var past: [(pages: [UInt64], changed: [TXID])] = []
    private static let pastMax = 3

    var position: Position {
      Position(
        database: DatabaseID(short: 7), epoch: history.current, txid: txid, checksum: .empty)
    }

    /// Begins an epoch without the last transactions.
    mutating func promote(losing count: Int) {
      for _ in 0..<min(count, past.count) {
        (pages, changed) = past.removeLast()
        txid = TXID(txid.rawValue - 1)
      }
      history.fork(after: txid, step: 3)
    }

    mutating func commit(_ random: inout SeededGenerator) {
      past.append((pages, changed))
      if past.count > Self.pastMax { past.removeFirst() }
      txid = TXID(txid.rawValue + 1)
      if UInt.random(in: 0..<16, using: &random) == 0 {
        let count = Int.random(in: 150...250, using: &random)
        pages.removeLast(max(0, pages.count - count))
        changed.removeLast(max(0, changed.count - count))
        while pages.count < count { touch(pages.count, &random) }
      }
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        touch(Int.random(in: 0..<pages.count, using: &random), &random)
      }
      touch(0, &random)
    }

    private mutating func touch(_ index: Int, _ random: inout SeededGenerator) {
      let value = UInt64.random(in: 1 ... .max, using: &random)
      if index == pages.count {
        pages.append(value)
        changed.append(txid)
      } else {
        pages[index] = value
        changed[index] = txid
      }
    }

    func changed(since: TXID) -> [Pgno] {
      let found = pages.indices.filter { changed[$0] > since }.map { Pgno(UInt32($0 + 1)) }
      return found.isEmpty ? [Pgno(1)] : found
    }

    func page(_ pgno: Pgno) -> UInt64 { pgno.index < pages.count ? pages[pgno.index] : 0 }
  }

  /// What the library does, with its numbers.
  private struct Copy {
    var pages: [Int: UInt64] = [:]
    var count = 0
    var generation: UInt32 = 0
    var frame = 0
    /// How many frames its own WAL has: a page that comes twice in one commit has one.
    var ownFrames = 0
    /// Frames that no commit has ended: gone with the process of the client.
    var open: [(Pgno, UInt64)] = []

    var content: [UInt64] { (0..<count).map { pages[$0] ?? 0 } }
  }

  private struct World {
    var model = Model()
    private static let limits = SyncGenerations.Limits(
      frames: 80, framesAtStart: 20, generations: 8, records: 12)
    var generations = SyncGenerations(last: 0, floor: 0, former: [], limits: limits)
    var written: (last: UInt32, floor: UInt32, records: [SyncRecord]) = (0, 0, [])

    mutating func begin() throws -> Copy {
      var copy = Copy()
      let model = model
      copy.generation = try generations.newest(at: model.position, model.history) {
        model.changed(since: $0)
      }
      try generations.copied(copy.generation, at: model.position)
      written = (generations.last, generations.floor, generations.records)
      for (index, page) in model.pages.enumerated() { copy.pages[index] = page }
      copy.count = model.pages.count
      // The library pulls at once.
      for _ in 0..<100 {
        if try pull(&copy, frames: 128) { break }
      }
      return copy
    }

    /// One pull.
    ///
    /// - Returns: whether the client was told that it is complete.
    mutating func pull(_ copy: inout Copy, frames: Int) throws -> Bool {
      let model = model
      let start = copy.frame + copy.open.count + 1
      let answer = try generations.pull(
        copy.generation, from: start, count: frames, at: model.position, model.history
      ) { model.changed(since: $0) }
      written = (generations.last, generations.floor, generations.records)
      switch answer {
      case .generation(let number) where number <= copy.generation: return true
      case .generation:
        // The library stops with an assertion in the middle of a commit.
        guard copy.open.isEmpty else {
          copy.open = []
          return false
        }
        copy.generation += 1
        copy.frame = 0
        copy.ownFrames = 0
        return false
      case .frames(let pages, let isEnd):
        #expect(!pages.isEmpty && pages.count <= frames)
        copy.open += pages.map { ($0, model.page($0)) }
        if isEnd {
          for (pgno, page) in copy.open { copy.pages[pgno.index] = page }
          copy.count = model.pages.count
          copy.frame += copy.open.count
          copy.ownFrames += Set(copy.open.map(\.0)).count
          copy.open = []
          // A commit is the database as it is, even if more follows.
          #expect(copy.content == model.pages)
        }
        return false
      }
    }

    mutating func restart() {
      generations = SyncGenerations(
        last: written.last, floor: written.floor, former: written.records, limits: Self.limits)
    }
  }

  private static func play(seed: UInt64, rewinds: Bool) throws -> (complete: Int, lost: Int) {
    var random = SeededGenerator(seed: seed)
    var world = World()
    var backup = world
    var copies: [Copy] = []
    var complete = 0
    var lost = 0
    for _ in 0..<400 {
      switch Int.random(in: 0..<100, using: &random) {
      case 0..<35: world.model.commit(&random)
      case 35..<40 where copies.count < 5: copies.append(try world.begin())
      case 40..<88 where !copies.isEmpty:
        let index = Int.random(in: 0..<copies.count, using: &random)
        let frames = Int.random(in: 1...40, using: &random)
        // A sync, perhaps broken off, with commits between its pulls. A copy between two
        // generations has no count of frames to tell a state by.
        let most = Int.random(in: 1...30, using: &random)
        pulls: for _ in 0..<(rewinds ? 1000 : most) {
          do throws(any Error) {
            if try world.pull(&copies[index], frames: frames) {
              #expect(copies[index].content == world.model.pages, "seed \(seed)")
              // Else it would push from a wrong frame.
              #expect(copies[index].ownFrames == copies[index].frame, "seed \(seed)")
              complete += 1
              break pulls
            }
          } catch is SyncGenerations.Lost {
            lost += 1
            copies[index] = try world.begin()
            break pulls
          }
          if Int.random(in: 0..<6, using: &random) == 0 { world.model.commit(&random) }
        }
        copies[index].open = []
      case 88..<93: world.restart()
      case 93..<95: backup = world
      case 95..<97 where rewinds && world.generations.last == backup.generations.last:
        // The whole folder of an earlier moment, of which nothing in it tells.
        world = backup
        world.restart()
      case 97..<99:
        // A promotion: nothing is lost, or the last transactions are.
        world.model.promote(losing: Int.random(in: 0...2, using: &random))
        world.model.commit(&random)
      default: world.model.commit(&random)
      }
    }
    return (complete, lost)
  }

  @Test func aCopyThatIsCompleteIsTheDatabase() throws {
    var complete = 0
    for seed in 0..<40 { complete += try Self.play(seed: UInt64(seed), rewinds: false).complete }
    #expect(complete > 1000)
  }

  @Test func anEarlierFolderIsNoticedOrHarmless() throws {
    var lost = 0
    for seed in 1000..<1040 { lost += try Self.play(seed: UInt64(seed), rewinds: true).lost }
    #expect(lost > 0)
  }
}
