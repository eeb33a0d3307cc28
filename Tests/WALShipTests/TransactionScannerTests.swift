import Testing

@testable import WALShip

private let frameBytes = 24 + 512

private func transaction(_ frames: ClosedRange<UInt32>, pages: UInt32) -> WALSummary.Transaction {
  WALSummary.Transaction(frames: frames, pageCount: pages)
}

private let threeCommits = [
  transaction(1...2, pages: 2), transaction(3...3, pages: 2), transaction(4...6, pages: 3),
]

@Test func recordedWALGivesItsTransactions() throws {
  let summary = try summarize(fixture("three-commits"))
  #expect(summary.transactions == threeCommits)
  #expect(summary.end == .moreBytesNeeded)
}

@Test func restartedWALEndsWhereTheOldSaltsBegin() throws {
  let summary = try summarize(fixture("restarted"))
  #expect(summary.transactions == [transaction(1...1, pages: 3)])
  #expect(summary.end == .saltChanged(frame: 2))
}

@Test func spilledFramesWithoutCommitAreAnOpenTransaction() throws {
  let summary = try summarize(fixture("open-transaction"))
  #expect(summary.transactions == [transaction(1...2, pages: 2)])
  #expect(summary.end == .openTransaction(frames: 6))
}

@Test func row05_walCutAtAnyByteGivesTheTransactionsBeforeTheCut() throws {
  let recorded = try fixture("three-commits")
  for count in 0...recorded.count {
    let cut = Array(recorded[..<count])
    guard count >= WALHeader.byteCount else {
      #expect(throws: WALFormatError.truncated(neededBytes: 32, gotBytes: count)) {
        try summarize(cut)
      }
      continue
    }
    let summary = try summarize(cut)
    let frames = UInt32((count - WALHeader.byteCount) / frameBytes)
    let whole = threeCommits.filter { $0.frames.upperBound <= frames }
    let open = Int(frames - (whole.last?.frames.upperBound ?? 0))
    #expect(summary.transactions == whole)
    #expect(summary.end == (open == 0 ? .moreBytesNeeded : .openTransaction(frames: open)))
  }
}

@Test func flippedBitEndsTheScanAtItsFrame() throws {
  let recorded = try fixture("three-commits")
  for offset in WALHeader.byteCount..<recorded.count {
    let inFrame = (offset - WALHeader.byteCount) % frameBytes
    for bit in inFrame < FrameHeader.byteCount ? 0..<8 : offset % 8..<offset % 8 + 1 {
      var bytes = recorded
      bytes[offset] ^= 1 << bit
      let frame = UInt32((offset - WALHeader.byteCount) / frameBytes + 1)
      let pgno = bytes[(offset - inFrame)...].prefix(4)
      let summary = try summarize(bytes)
      #expect(summary.transactions == threeCommits.filter { $0.frames.upperBound < frame })
      if 8..<16 ~= inFrame {
        #expect(summary.end == .saltChanged(frame: frame))
      } else if pgno.allSatisfy({ $0 == 0 }) {
        #expect(summary.end == .zeroPgno(frame: frame))
      } else {
        #expect(summary.end == .checksumMismatch(frame: frame))
      }
    }
  }
}

@Test(arguments: allPageSizes)
func builtWALIsReadBackForEachPageSize(size: Int) throws {
  var random = TestRandom(seed: UInt64(size))
  let header = WALHeader(
    pageSize: try testPageSize(size), checkpointSequence: 0, salts: Salts(first: 9, second: 8))
  let bytes = wal(
    header,
    [
      TestFrame(pgno: 1, commit: 0, page: random.bytes(size)),
      TestFrame(pgno: 2, commit: 2, page: random.bytes(size)),
      TestFrame(pgno: 2, commit: 5, page: random.bytes(size)),
      TestFrame(pgno: 3, commit: 0, page: random.bytes(size)),
    ])
  let summary = try summarize(bytes)
  #expect(summary.transactions == [transaction(1...2, pages: 2), transaction(3...3, pages: 5)])
  #expect(summary.end == .openTransaction(frames: 1))
}

@Test func bigEndianChecksumsAreVerified() throws {
  let header = try bigEndianHeader().withUnsafeBytes { try WALHeader(decoding: $0) }
  var bytes = wal(
    header,
    [
      TestFrame(pgno: 1, commit: 1, page: TestRandom.page(3)),
      TestFrame(pgno: 2, commit: 2, page: TestRandom.page(4)),
    ])
  #expect(try summarize(bytes).transactions.count == 2)
  bytes[bytes.count - 1] ^= 1
  #expect(try summarize(bytes).end == .checksumMismatch(frame: 2))
}

@Test func zerosAfterTheLastFrameAreNotItsSalts() throws {
  let bytes = try fixture("three-commits") + [UInt8](repeating: 0, count: frameBytes)
  #expect(try summarize(bytes).end == .saltChanged(frame: 7))
}

@Test func frameForPageZeroEndsTheScanEvenWithAGoodChecksum() throws {
  let header = WALHeader(
    pageSize: try testPageSize(512), checkpointSequence: 0, salts: Salts(first: 9, second: 8))
  let bytes = wal(header, [TestFrame(pgno: 0, commit: 1, page: TestRandom.page(5))])
  #expect(try summarize(bytes).end == .zeroPgno(frame: 1))
}

@Test func scannerStandsStillOnABadFrameAndTakesTheGoodOneAfterwards() throws {
  let recorded = try fixture("three-commits")
  let header = try recorded.withUnsafeBytes { try WALHeader(decoding: $0) }
  var scanner = TransactionScanner(header: header)
  func feed(_ bytes: some Collection<UInt8>) -> TransactionScanner.Step {
    Array(bytes).withUnsafeBytes { scanner.next($0) }
  }
  let first = recorded[32..<32 + frameBytes]
  let second = recorded[(32 + frameBytes)...].prefix(frameBytes)

  #expect(feed(second) == .end(.checksumMismatch(frame: 1)))
  #expect(feed(first.dropLast()) == .end(.moreBytesNeeded))
  #expect(scanner.commitChecksum == header.checksum)
  guard case .frame(let opening) = feed(first) else {
    Issue.record("the first frame was refused")
    return
  }
  #expect(opening.pgno == Pgno(1) && !opening.isCommit)
  #expect(scanner.frameCount == 1 && scanner.lastCommitFrame == 0 && scanner.commitCount == 0)
  #expect(feed([]) == .end(.openTransaction(frames: 1)))
  #expect(scanner.checksum == opening.checksum && scanner.commitChecksum == header.checksum)
  guard case .frame(let commit) = feed(second) else {
    Issue.record("the second frame was refused")
    return
  }
  #expect(commit.pgno == Pgno(2) && commit.isCommit && scanner.commitChecksum == commit.checksum)
  #expect(scanner.lastCommitFrame == 2 && scanner.commitCount == 1 && scanner.pageCount == 2)
  #expect(feed(second.dropLast()) == .end(.moreBytesNeeded))
}

extension TestRandom {
  fileprivate static func page(_ seed: UInt64) -> [UInt8] {
    var random = TestRandom(seed: seed)
    return random.bytes(512)
  }
}
