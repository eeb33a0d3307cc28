// Pushes of offline copies against a model of a database: whatever is lost on the way, and whenever
// the node begins anew, a push is done once or not at all, and a copy that is told of success is the
// database.

import EdgeTesting
import NIOCore
import Testing
import WALShip

@testable import Serving
@testable import Store

@Suite struct SyncPushesTests {
  /// A database whose pages are numbers.
  private struct Model {
    var pages = (1...40).map { UInt64($0) }
    var changed = [TXID](repeating: TXID(1), count: 40)
    var txid = TXID(1)
    let history = EpochHistory(current: Epoch(1))

    var position: Position {
      Position(
        database: DatabaseID(short: 7), epoch: history.current, txid: txid, checksum: .empty)
    }

    mutating func commit(_ writes: [Int: UInt64]) {
      txid = txid.next
      for (index, value) in writes {
        pages[index] = value
        changed[index] = txid
      }
    }

    func changed(since: TXID) -> [Pgno] {
      let found = pages.indices.filter { changed[$0] > since }.map { Pgno(UInt32($0 + 1)) }
      return found.isEmpty ? [Pgno(1)] : found
    }
  }

  private struct Copy {
    var pages: [UInt64]
    var generation: UInt32
    /// The last frame that the node has, as the copy believes, and as it would after a restart.
    var durable = 0
    var noted = 0
    /// Its own frames, behind those that it pulled.
    var first = 1
    var frames: [(index: Int, value: UInt64)] = []
    let salt: UInt64

    var last: Int { first + frames.count - 1 }

    /// What it pushes, from a frame on.
    func push(from start: Int) throws -> PushedFrames {
      var push = PushedFrames(generation: generation, start: start)
      var body = ByteBuffer()
      for (offset, frame) in frames[(start - first)...].enumerated() {
        let isLast = start - first + offset == frames.count - 1
        body.writeInteger(UInt32(frame.index + 1))
        body.writeInteger(isLast ? 40 as UInt32 : 0)
        body.writeInteger(salt)
        body.writeInteger(UInt64(start + offset))
        body.writeInteger(frame.value)
        body.writeRepeatingByte(0, count: PagePush.pageBytes - 8)
      }
      try push.append(body)
      return push
    }
  }

  private struct World {
    var model = Model()
    static let recordsMax = 12
    private static let limits = SyncGenerations.Limits(
      frames: 60, framesAtStart: 10, generations: 8, records: recordsMax)
    var generations = SyncGenerations(last: 0, floor: 0, former: [], limits: limits)
    var done = 0
    var conflicts = 0

    mutating func restart() {
      generations = SyncGenerations(
        last: generations.last, floor: generations.floor, former: generations.records,
        pushes: generations.pushes, limits: Self.limits)
    }

    mutating func begin(_ salt: UInt64) throws -> Copy {
      let model = model
      let number = try generations.newest(
        at: model.position, model.history, wasApplied: wasApplied
      ) { model.changed(since: $0) }
      try generations.copied(number, at: model.position)
      return Copy(pages: model.pages, generation: number, salt: salt)
    }

    var wasApplied: (ArraySlice<PushedFrames.Frame>, TXID) -> Bool {
      let model = model
      return { frames, txid in
        var seen: Set<Pgno> = []
        return frames.reversed().contains { frame in
          guard seen.insert(frame.pgno).inserted else { return false }
          var page = ByteBuffer()
          page.writeInteger(model.pages[frame.pgno.index])
          page.writeRepeatingByte(0, count: PagePush.pageBytes - 8)
          let sum = page.withUnsafeReadableBytes { pageChecksum($0, pgno: frame.pgno) }
          return model.changed[frame.pgno.index] == txid && sum == frame.checksum
        }
      }
    }

    /// Pulls to the end; what the copy wrote itself must be pushed by then.
    ///
    /// - Returns: false when it cannot be said now.
    mutating func pull(_ copy: inout Copy) throws -> Bool {
      let model = model
      for _ in 0..<200 {
        let answer: SyncGenerations.Answer
        do {
          answer = try generations.pull(
            copy.generation, from: copy.durable + 1, count: 500, at: model.position, model.history,
            wasApplied: wasApplied
          ) { model.changed(since: $0) }
        } catch is SyncGenerations.Busy { return false }
        switch answer {
        case .generation(let number) where number <= copy.generation:
          #expect(copy.pages == model.pages)
          return true
        case .generation:
          copy.generation += 1
          copy.durable = 0
        case .frames(let pages, _):
          for pgno in pages where pgno.index < 40 {
            copy.pages[pgno.index] = model.pages[pgno.index]
          }
          // The library keeps one frame for each page.
          #expect(Set(pages).count == pages.count)
          copy.durable += pages.count
          #expect(copy.pages == model.pages)
        }
        copy.noted = copy.durable
        copy.first = copy.durable + 1
        copy.frames = []
      }
      throw TestFailure("there is no end of frames")
    }

    enum Loss: CaseIterable {
      case none, answer, answerAndNode, request, nodeBeforeNote, linkBeforeNote, linkBeforeWrite,
        nodeIsBehind
    }

    /// A push, and what is lost of it.
    ///
    /// - Returns: false when the copy is told that it is in conflict.
    mutating func push(_ copy: inout Copy, _ loss: Loss, then: (inout Model) -> Void) throws -> Bool
    {
      for _ in 0..<4 where copy.durable < copy.last {
        let push = try copy.push(from: copy.durable + 1)
        let answer: SyncGenerations.PushAnswer
        do {
          answer = try generations.push(
            push, at: model.position, model.history, wasApplied: wasApplied)
        } catch is SyncGenerations.Busy { return true }
        switch answer {
        case .conflict:
          conflicts += 1
          return false
        case .known(let number): copy.durable = number
        case .current:
          // Only the present state may be pushed onto: then the copy is it, but for its own frames.
          var expected = model.pages
          for frame in copy.frames[(push.start - copy.first)...] {
            expected[frame.index] = frame.value
          }
          #expect(copy.pages == expected, "another state is taken for the present one")
          let base = model.txid
          let isRepeat = generations.sending(push, from: base)
          if loss == .request || loss == .linkBeforeWrite {
            if loss == .request { restart() } else { generations.notSent(push, isKnown: false) }
            return true
          }
          if loss == .nodeIsBehind, isRepeat {
            // An earlier try was done, and this node does not know it yet.
            generations.notSent(push, isKnown: false)
            return true
          }
          var writes: [Int: UInt64] = [:]
          for frame in copy.frames[(push.start - copy.first)...] {
            writes[frame.index] = frame.value
          }
          model.commit(writes)
          done += 1
          then(&model)
          if loss == .nodeBeforeNote {
            restart()
            return true
          }
          if loss == .linkBeforeNote {
            generations.notSent(push, isKnown: false)
            return true
          }
          let isNoted = generations.sent(push, from: base)
          #expect(isNoted)
          if loss == .answerAndNode { restart() }
          if loss != .none { return true }
          copy.durable = push.last
        }
      }
      copy.noted = copy.durable
      return true
    }
  }

  private static func play(seed: UInt64) throws -> World {
    var random = SeededGenerator(seed: seed)
    var world = World()
    var copies: [Copy] = []
    var next: UInt64 = 1000
    func writes(_ random: inout SeededGenerator) -> [(index: Int, value: UInt64)] {
      (0..<Int.random(in: 1...5, using: &random)).map { _ in
        next += 1
        return (Int.random(in: 0..<40, using: &random), next)
      }
    }
    for step in 0..<300 {
      switch Int.random(in: 0..<100, using: &random) {
      case 0..<8:
        let written = writes(&random)
        world.model.commit(Dictionary(written.map { ($0.index, $0.value) }) { $1 })
      case 8..<16 where copies.count < 4: copies.append(try world.begin(seed << 16 | UInt64(step)))
      case 16..<50 where !copies.isEmpty:
        let index = Int.random(in: 0..<copies.count, using: &random)
        let written = writes(&random)
        copies[index].frames += written
        for write in written { copies[index].pages[write.index] = write.value }
      case 50..<88 where !copies.isEmpty:
        let index = Int.random(in: 0..<copies.count, using: &random)
        do {
          if copies[index].durable < copies[index].last {
            let loss = World.Loss.allCases.randomElement(using: &random) ?? .none
            let isFollowed = Int.random(in: 0..<4, using: &random) == 0
            let isFine = try world.push(&copies[index], loss) { model in
              if isFollowed { model.commit([Int.random(in: 0..<40, using: &random): 7]) }
            }
            if !isFine { copies.remove(at: index) }
          } else {
            _ = try world.pull(&copies[index])
          }
        } catch is SyncGenerations.Lost { copies.remove(at: index) }
      case 88..<92: world.restart()
      case 92..<96 where !copies.isEmpty:
        // The process of the copy begins anew.
        let index = Int.random(in: 0..<copies.count, using: &random)
        copies[index].durable = copies[index].noted
      default: break
      }
    }
    return world
  }

  @Test func aPushIsDoneOnceOrNotAtAll() throws {
    var done = 0
    var conflicts = 0
    for seed in 0..<200 {
      let world = try Self.play(seed: UInt64(seed))
      done += world.done
      conflicts += world.conflicts
    }
    #expect(done > 2000 && conflicts > 50)
  }

  /// Restarts between pushes take nothing from what a node knows of its copies.
  @Test func aCopyThatOnlyPushesStaysKnown() throws {
    var world = World()
    var copy = try world.begin(1)
    for value in 1...UInt64(World.recordsMax) * 4 {
      copy.frames.append((3, value))
      copy.pages[3] = value
      #expect(try world.push(&copy, .answerAndNode) { _ in })
      #expect(try world.push(&copy, .none) { _ in })
      #expect(copy.durable == copy.last)
    }
    #expect(world.done == World.recordsMax * 4)
    #expect(try world.pull(&copy))
  }
}
