import Testing

@testable import WALShip

@Suite struct ShipSenderTests {
  @Test func aFollowerAtTheHeadGetsEachTransactionOnce() {
    var sender = ShipSender(plan: .follow, followerAt: TXID(5), consistentPagesMax: 10)
    #expect(sender.next(head: TXID(5), ringFirst: TXID(1)) == .wait)
    #expect(sender.next(head: TXID(7), ringFirst: TXID(1)) == .sendTransaction(TXID(6)))
    #expect(sender.next(head: TXID(7), ringFirst: TXID(1)) == .wait, "one action at a time")
    sender.transactionSent()
    #expect(sender.next(head: TXID(7), ringFirst: TXID(1)) == .sendTransaction(TXID(7)))
    sender.transactionSent()
    #expect(sender.next(head: TXID(7), ringFirst: TXID(1)) == .wait)
    #expect(sender.isStreaming)
  }

  @Test func aTransactionThatTheRingLostIsCaughtUpByPages() {
    var sender = ShipSender(plan: .follow, followerAt: TXID(5), consistentPagesMax: 10)
    #expect(
      sender.next(head: TXID(9), ringFirst: TXID(8))
        == .plan(.changed(since: TXID(5)), isFirst: true))
    sender.planned(pages: 3, head: TXID(9))
    #expect(
      sender.next(head: TXID(9), ringFirst: TXID(8))
        == .sendConsistentRound(.changed(since: TXID(5))))
    sender.roundSent(at: TXID(10))
    #expect(sender.next(head: TXID(11), ringFirst: TXID(8)) == .sendTransaction(TXID(11)))
  }

  @Test func aLargeCopyRunsInRoundsUntilOneFitsIntoASnapshot() {
    var sender = ShipSender(plan: .copy, followerAt: .zero, consistentPagesMax: 10)
    #expect(
      sender.next(head: TXID(9), ringFirst: nil) == .plan(.changed(since: .zero), isFirst: true))
    sender.planned(pages: 1000, head: TXID(9))
    #expect(
      sender.next(head: TXID(9), ringFirst: nil) == .sendPages(.changed(since: .zero), after: 0))
    sender.pagesSent(through: 500)
    #expect(
      sender.next(head: TXID(20), ringFirst: nil) == .sendPages(.changed(since: .zero), after: 500))
    sender.pagesSent(through: nil)
    // The next round begins where the node stood when the last one began.
    #expect(
      sender.next(head: TXID(25), ringFirst: nil) == .plan(.changed(since: TXID(9)), isFirst: false)
    )
    sender.planned(pages: 8, head: TXID(25))
    #expect(
      sender.next(head: TXID(25), ringFirst: nil) == .sendConsistentRound(.changed(since: TXID(9))))
    sender.roundSent(at: TXID(26))
    #expect(sender.isStreaming)
  }

  @Test func roundsEndEvenWhenThePrimaryOutrunsTheLink() {
    var sender = ShipSender(plan: .copy, followerAt: .zero, consistentPagesMax: 10)
    var head: UInt64 = 100
    for _ in 0..<40 {
      head += 100
      switch sender.next(head: TXID(head), ringFirst: nil) {
      case .plan: sender.planned(pages: 1000, head: TXID(head))
      case .sendPages: sender.pagesSent(through: nil)
      case .sendConsistentRound:
        sender.roundSent(at: TXID(head))
        return
      case .wait, .sendTransaction: Issue.record("unexpected action")
      }
    }
    Issue.record("the rounds never ended")
  }

  @Test func aComparisonWaitsForTheChecksums() throws {
    var sender = ShipSender(plan: .compare, followerAt: TXID(3), consistentPagesMax: 10)
    #expect(sender.next(head: TXID(9), ringFirst: TXID(1)) == .wait)
    try sender.checksumsReceived()
    #expect(sender.next(head: TXID(9), ringFirst: TXID(1)) == .plan(.differing, isFirst: true))
  }

  @Test func checksumsThatNobodyAskedForEndTheConnection() {
    var sender = ShipSender(plan: .follow, followerAt: TXID(3), consistentPagesMax: 10)
    #expect(throws: ShipProtocolError.self) { try sender.checksumsReceived() }
  }

  @Test func aFollowerCanAskToBeComparedAtAnyTime() throws {
    var sender = ShipSender(plan: .follow, followerAt: TXID(3), consistentPagesMax: 10)
    #expect(sender.next(head: TXID(4), ringFirst: TXID(1)) == .sendTransaction(TXID(4)))
    sender.resynchronize()
    #expect(sender.next(head: TXID(4), ringFirst: TXID(1)) == .wait)
    try sender.checksumsReceived()
    #expect(sender.next(head: TXID(4), ringFirst: TXID(1)) == .plan(.differing, isFirst: true))
  }
}

@Suite struct ShipReceiverTests {
  @Test func onlyTheNextTransactionIsApplied() {
    var receiver = ShipReceiver(at: TXID(7))
    #expect(receiver.received(TXID(7)) == .ignore)
    #expect(receiver.received(TXID(8)) == .apply)
    receiver.applied(TXID(8))
    #expect(receiver.received(TXID(8)) == .ignore)
    #expect(receiver.received(TXID(9)) == .apply)
  }

  @Test func aGapAsksForAComparisonAndAppliesNothing() {
    var receiver = ShipReceiver(at: TXID(7))
    #expect(receiver.received(TXID(9)) == .resynchronize("transaction 9 arrived after 7"))
    receiver.foundMismatch()
    #expect(receiver.received(TXID(8)) == .ignore)
  }

  @Test func aCatchUpEndsWithItsConsistentRoundOnly() {
    var receiver = ShipReceiver(at: TXID(7))
    let began = receiver.catchUpBegan(isComparison: false)
    #expect(began)
    #expect(receiver.acceptsPages)
    receiver.roundEnded(at: TXID(20), isConsistent: false)
    #expect(receiver.acceptsPages)
    receiver.roundEnded(at: TXID(21), isConsistent: true)
    #expect(!receiver.acceptsPages)
    #expect(receiver.received(TXID(22)) == .apply)
  }

  @Test func aCatchUpThatWasUnderWayIsNotTakenForTheComparison() {
    var receiver = ShipReceiver(at: TXID(7))
    receiver.foundMismatch()
    let overtaken = receiver.catchUpBegan(isComparison: false)
    #expect(!overtaken)
    #expect(!receiver.acceptsPages)
    let began = receiver.catchUpBegan(isComparison: true)
    #expect(began)
    #expect(receiver.acceptsPages)
  }
}

@Suite struct EpochHistoryTests {
  @Test func transactionsUpToAForkSurviveAndLaterOnesAreLost() {
    var history = EpochHistory(current: Epoch(1))
    history.fork(after: TXID(10), step: 1)
    #expect(history.current == Epoch(2))
    #expect(history.contains(epoch: Epoch(1), txid: TXID(10)))
    #expect(!history.contains(epoch: Epoch(1), txid: TXID(11)))
    #expect(history.contains(epoch: Epoch(2), txid: TXID(1000)))
    #expect(!history.contains(epoch: Epoch(3), txid: TXID(1)))
  }

  @Test func aLaterForkCutsEarlierEpochsToo() {
    var history = EpochHistory(current: Epoch(1))
    history.fork(after: TXID(10), step: 1)
    history.fork(after: TXID(8), step: 1)
    #expect(history.contains(epoch: Epoch(1), txid: TXID(8)))
    #expect(!history.contains(epoch: Epoch(1), txid: TXID(9)))
    #expect(!history.contains(epoch: Epoch(2), txid: TXID(9)))
  }

  @Test func aForkOfUnknownOriginLosesEverything() {
    var history = EpochHistory(current: Epoch(4))
    history.fork(after: .zero)
    #expect(!history.contains(epoch: Epoch(4), txid: TXID(1)))
  }

  @Test func forgottenEpochsAreLost() {
    var history = EpochHistory(current: Epoch(1))
    for _ in 0..<EpochHistory.forksMax + 2 { history.fork(after: TXID(10)) }
    #expect(history.forks.count == EpochHistory.forksMax)
    #expect(!history.contains(epoch: Epoch(1), txid: TXID(1)))
  }
}

@Suite struct TokenTests {
  @Test func tokensAreReadAsTheyAreWritten() throws {
    let token = Token(database: 0x0a1b_2c3d, epoch: Epoch(3), txid: TXID(1042))
    #expect(token.description == "e1.0a1b2c3d.3.1042")
    #expect(Token("e1.0a1b2c3d.3.1042") == token)
    #expect(token.replicationIndex == 3 << 40 | 1042)
  }

  @Test(arguments: [
    "", "e1", "e1.0a1b2c3d.3", "e2.0a1b2c3d.3.1042", "e1.0a1b2c3.3.1042", "e1.0a1b2c3g.3.1042",
    "e1.0a1b2c3d.-3.1042", "e1.0a1b2c3d.3.+1", "e1.0a1b2c3d.3.99999999999999999999",
    "e1.0a1b2c3d.4294967296.1", "e1.0a1b2c3d..1", "e1.0a1b2c3d.3.1099511627776", " e1.0a1b2c3d.3.1",
  ])
  func whatIsNoTokenIsRefused(text: String) {
    #expect(Token(text) == nil)
  }
}

@Suite struct PageMapRecordTests {
  private let base = PageMapBase(
    sequence: 9,
    history: EpochHistory(current: Epoch(2), forks: [EpochFork(epoch: Epoch(1), last: TXID(5))]),
    txid: TXID(77), checksum: DatabaseChecksum(123),
    place: LogPlace(salts: Salts(first: 1, second: 2), frame: 3), pageCount: 44, isClean: true)

  @Test func aRecordIsReadAsItWasWritten() {
    var record = base
    record.bootID = (0..<16).map { UInt8($0) }
    record.changeCounter = 17
    var bytes = [UInt8](repeating: 0xff, count: PageMapBase.byteCount)
    bytes.withUnsafeMutableBytes { record.encode(into: $0) }
    #expect(bytes.withUnsafeBytes { PageMapBase(decoding: $0) } == record)
  }

  @Test func anyFlippedBitMakesARecordUnreadable() {
    var bytes = [UInt8](repeating: 0, count: PageMapBase.byteCount)
    bytes.withUnsafeMutableBytes { base.encode(into: $0) }
    for bit in 0..<bytes.count * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(damaged.withUnsafeBytes { PageMapBase(decoding: $0) } == nil)
    }
  }

  /// Whoever reads such a record counts on from its numbers.
  @Test func numbersThatNoPageMapReachesAreRefused() {
    func comesBack(_ change: (inout PageMapBase) -> Void) -> Bool {
      var record = base
      record.bootID = [UInt8](repeating: 7, count: 16)
      change(&record)
      var bytes = [UInt8](repeating: 0, count: PageMapBase.byteCount)
      bytes.withUnsafeMutableBytes { record.encode(into: $0) }
      return bytes.withUnsafeBytes { PageMapBase(decoding: $0) } == record
    }
    #expect(comesBack { $0.sequence = 1 << 62 })
    #expect(!comesBack { $0.sequence = .max })
    #expect(!comesBack { $0.txid = TXID(.max) })
    #expect(!comesBack { $0.superseding = Epoch(.max) })
    #expect(!comesBack { $0.history.current = Epoch(.max) })
    let cases: [(UInt64, UInt64, Bool)] = [(9, 9, true), (.max, 9, false), (9, .max, false)]
    for (sequence, txid, holds) in cases {
      let live = PageMapLive(
        sequence: sequence, txid: TXID(txid), checksum: .empty,
        place: LogPlace(salts: Salts(first: 1, second: 2), frame: 3), pageCount: 4)
      var bytes = [UInt8](repeating: 0, count: PageMapLive.byteCount)
      bytes.withUnsafeMutableBytes { live.encode(into: $0) }
      #expect((bytes.withUnsafeBytes { PageMapLive(decoding: $0) } == live) == holds)
    }
  }

  @Test func row24_aNewerFormatIsNamed() throws {
    let identity = PageMapIdentity(
      database: DatabaseID(high: 1, low: 2), pageSize: try testPageSize(4096))
    var bytes = [UInt8](repeating: 0, count: PageMapIdentity.byteCount)
    bytes.withUnsafeMutableBytes { identity.encode(into: $0) }
    bytes[8] = 9
    bytes.withUnsafeMutableBytes { buffer in
      let sum = xxh64(
        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[0..<56]), seed: 0)
      buffer.storeBytes(of: sum.littleEndian, toByteOffset: 56, as: UInt64.self)
    }
    #expect(throws: PageMapIdentity.Failure.newerFormat(9)) {
      try bytes.withUnsafeBytes { _ = try PageMapIdentity(decoding: $0) }
    }
  }
}
