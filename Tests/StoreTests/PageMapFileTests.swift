import EdgeTesting
import Store
import Testing
import WALShip

@Suite struct PageMapFileTests {
  private let directory: TestDirectory
  private let path: String
  private let identity: PageMapIdentity

  init() throws {
    directory = try TestDirectory()
    path = directory.file("a.db-pagemap")
    identity = PageMapIdentity(
      database: DatabaseID(high: 1, low: 2), pageSize: try #require(PageSize(4096)))
  }

  private func make() throws -> PageMapFile {
    try PageMapFile(creating: path, identity: identity, history: EpochHistory(current: Epoch(1)))
  }

  private func set(_ map: PageMapFile, _ pages: ClosedRange<UInt32>, txid: UInt64) throws {
    try map.update { editor in
      for number in pages {
        try editor.set(
          Pgno(number), PageMapEntry(txid: TXID(txid), checksum: UInt64(number) * 31 + txid))
      }
      try editor.resize(to: max(editor.live.pageCount, pages.upperBound))
      editor.live.txid = TXID(txid)
    }
  }

  @Test func entriesAndTheLiveRecordSurviveTheEndOfTheProcess() throws {
    try { try set(make(), 1...10_000, txid: 3) }()
    let map = try PageMapFile(opening: path)
    #expect(map.identity == identity)
    #expect(map.live.txid == TXID(3))
    #expect(map.live.pageCount == 10_000)
    #expect(map.entry(Pgno(10_000)) == PageMapEntry(txid: TXID(3), checksum: 310_003))
    #expect(map.live.checksum == map.checksumOfEntries(pageCount: 10_000))
  }

  @Test func changedPagesAreFoundOnceEachAndInOrder() throws {
    let map = try make()
    try set(map, 1...100, txid: 1)
    try set(map, 40...45, txid: 2)
    let found = map.changedPages(since: TXID(1), after: 0, through: 100, limit: 4)
    #expect(found.pages.map(\.rawValue) == [40, 41, 42, 43])
    let rest = map.changedPages(
      since: TXID(1), after: try #require(found.cursor), through: 100, limit: 40)
    #expect(rest.pages.map(\.rawValue) == [44, 45])
    #expect(rest.cursor == nil)
  }

  @Test func differingPagesIncludeThoseTheOtherSideDoesNotHave() throws {
    let map = try make()
    try set(map, 1...5, txid: 1)
    var checksums = map.entries(from: Pgno(1), count: 3).map(\.checksum)
    checksums[1] ^= 1
    var follower = FollowerPages(.all)
    for part in ShipPageChecksums.parts(of: checksums) { try follower.add(part) }
    let found = map.differingPages(from: follower, after: 0, through: 5, limit: 100)
    #expect(found.pages.map(\.rawValue) == [2, 4, 5])
  }

  @Test func pagesThatAreGoneCountNoMore() throws {
    let map = try make()
    try set(map, 1...10, txid: 1)
    try map.update { editor in try editor.resize(to: 4) }
    #expect(map.entry(Pgno(5)) == .absent)
    #expect(map.live.checksum == map.checksumOfEntries(pageCount: 4))
  }

  @Test func theNewestWholeBaseRecordCounts() throws {
    do {
      let map = try make()
      var base = map.base
      base.txid = TXID(5)
      try map.saveBase(base)
      base.txid = TXID(6)
      try map.saveBase(base)
    }
    var bytes = try Files.read(path)
    #expect(try PageMapFile(opening: path).base.txid == TXID(6))
    // The slot of the last record is torn: the one before counts.
    let torn = PageMapLayout.baseOffsets[Int(3 & 1)]
    bytes[torn + 20] ^= 0xff
    try directory.write("a.db-pagemap", bytes)
    #expect(try PageMapFile(opening: path).base.txid == TXID(5))
  }

  @Test func aFileThatIsNoPageMapIsRefused() throws {
    try directory.write("b", [UInt8](repeating: 7, count: 10_000))
    try directory.write("c", "short")
    #expect(throws: PageMapIdentity.Failure.notAPageMap) {
      _ = try PageMapFile(opening: directory.file("b"))
    }
    #expect(throws: PageMapIdentity.Failure.notAPageMap) {
      _ = try PageMapFile(opening: directory.file("c"))
    }
  }
}
