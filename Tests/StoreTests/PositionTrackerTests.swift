import Store
import Synchronization
import Testing
import WALShip

@Suite struct PositionTrackerTests {
  private func position(_ txid: UInt64, epoch: UInt32 = 1) -> Position {
    Position(database: .zero, epoch: Epoch(epoch), txid: TXID(txid), checksum: .empty)
  }

  private func place(_ frame: UInt32, generation: UInt32 = 100) -> LogPlace {
    LogPlace(salts: Salts(first: generation, second: generation &* 7), frame: frame)
  }

  private func tracker(_ txid: UInt64, _ place: LogPlace) -> PositionTracker {
    PositionTracker(
      position: position(txid), place: place, history: EpochHistory(current: Epoch(1)))
  }

  @Test func aPlaceThatIsNotCapturedIsAhead() {
    let tracker = tracker(5, place(10))
    #expect(tracker.resolve(place(10)) == .position(position(5)))
    #expect(tracker.resolve(place(11)) == .ahead)
    #expect(tracker.resolve(place(1, generation: 101)) == .ahead)
  }

  @Test func anEarlierPlaceIsToldAsThePresentPositionOrItsOwn() {
    let tracker = tracker(5, place(10))
    tracker.advance(to: position(6), at: place(12))
    #expect(tracker.resolve(place(12)) == .position(position(6)))
    #expect(
      tracker.resolve(place(3)) == .position(position(6)), "a token may promise more, never less")
    #expect(tracker.exactPosition(at: place(3)) == nil)
  }

  @Test func anAnnouncedPlaceIsKnownBeforeItIsReached() {
    let tracker = tracker(5, place(10))
    tracker.announce(position(6), at: place(12))
    #expect(tracker.resolve(place(12)) == .position(position(6)))
    #expect(tracker.position == position(5))
  }

  @Test func anEmptyNewGenerationSaysNothingNew() {
    let tracker = tracker(5, place(10))
    #expect(tracker.resolve(place(0, generation: 101)) == .position(position(5)))
    #expect(tracker.resolve(place(0, generation: 102)) == .ahead)
  }

  @Test func theFirstCommitOfAFreshLogIsAheadWhateverItsSalts() {
    let nowhere = LogPlace(salts: Salts(first: 0, second: 0), frame: 0)
    for generation: UInt32 in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
      let tracker = tracker(1, nowhere)
      #expect(tracker.resolve(place(2, generation: generation)) == .ahead)
    }
  }

  /// SQLite draws both salts anew where another connection than the writer's began the generation.
  @Test func commitsOfAGenerationWithRandomSaltsAreAhead() {
    let tracker = tracker(5, place(10))
    for generation: UInt32 in [1, 99, 102, 0x8000_0000] {
      #expect(tracker.resolve(place(2, generation: generation)) == .ahead)
    }
    tracker.advance(to: position(6), at: place(2, generation: 7))
    #expect(tracker.resolve(place(10)) == .position(position(6)), "a former generation is over")
    #expect(tracker.resolve(place(3, generation: 7)) == .ahead)
  }

  @Test func waitersWakeOnceWhenTheirTargetIsReached() {
    let tracker = tracker(5, place(10))
    let woken = Atomic<Int>(0)
    _ = tracker.whenReached(.transaction(TXID(7))) { woken.add(1, ordering: .relaxed) }
    let cancelled = tracker.whenReached(.transaction(TXID(7))) {
      woken.add(100, ordering: .relaxed)
    }
    tracker.cancel(cancelled)
    tracker.advance(to: position(6), at: place(11))
    let none = woken.load(ordering: .relaxed)
    #expect(none == 0)
    tracker.advance(to: position(7), at: place(12))
    tracker.advance(to: position(8), at: place(13))
    let one = woken.load(ordering: .relaxed)
    #expect(one == 1)
    _ = tracker.whenReached(.place(place(13))) { woken.add(10, ordering: .relaxed) }
    let eleven = woken.load(ordering: .relaxed)
    #expect(eleven == 11, "a target that is reached already wakes at once")
    #expect(tracker.waiterCount == 0)
  }

  @Test func anEpochThatBeginsWakesEverybody() {
    let tracker = tracker(5, place(10))
    let woken = Atomic<Bool>(false)
    _ = tracker.whenReached(.transaction(TXID(700))) { woken.store(true, ordering: .relaxed) }
    tracker.advance(to: position(3, epoch: 2), at: place(20))
    let isWoken = woken.load(ordering: .relaxed)
    #expect(isWoken)
  }
}
