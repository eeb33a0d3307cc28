// Which databases a replica takes, and what it does about each.

import NIOCore
import Testing
import WALShip

@Suite struct DatabaseFilterTests {
  @Test(arguments: [
    ("*", "a", true), ("a", "a", true), ("a", "ab", false), ("a*", "ab", true),
    ("eu-*", "eu-", true), ("eu-*", "eu", false), ("*-eu", "a-eu-eu", true),
    ("a*b*c", "axxbyyc", true),
    ("a*b*c", "axxbyy", false), ("?", "a", true), ("?", "ab", false), ("?b*", "abc", true),
    ("users,eu-*", "users", true), ("users,eu-*", "us-1", false), ("a, b", "b", true),
  ])
  func globs(_ text: String, _ name: String, _ isMatch: Bool) throws {
    #expect(try #require(DatabaseFilter(text)).matches(name) == isMatch)
  }

  @Test(arguments: ["", ",", "a,", "A", "a.b", "../x", "a b", String(repeating: "*", count: 65)])
  func whatCouldMatchNothingIsRefused(_ text: String) { #expect(DatabaseFilter(text) == nil) }

  /// The worst pattern costs no more than the product of both lengths.
  @Test func manyStarsAreBounded() throws {
    let pattern = String(repeating: "a*", count: 31) + "b"
    let filter = try #require(DatabaseFilter([pattern]))
    #expect(!filter.matches(String(repeating: "a", count: 64)))
  }
}

@Suite struct CatalogueFollowerTests {
  private typealias Held = CatalogueFollower.Held

  private func position(_ txid: UInt64, database: UInt64 = 7) -> Position {
    Position(
      database: DatabaseID(high: database << 32, low: 1), epoch: Epoch(1), txid: TXID(txid),
      checksum: DatabaseChecksum(txid))
  }

  private func follower(_ held: [String: Held] = [:]) -> CatalogueFollower {
    CatalogueFollower(held: held, copiesMax: 2, worksMax: 2)
  }

  private func work(_ follower: inout CatalogueFollower) -> [String] {
    var all: [String] = []
    while let (name, work) = follower.next() { all.append("\(work) \(name)") }
    return all
  }

  @Test func whatStandsWhereItShouldIsLeftAlone() {
    var follower = follower(["a": Held(position(5)), "b": Held(position(5))])
    follower.news("a", .there(position(5)))
    follower.news("b", .there(position(6)))
    follower.listed()
    #expect(work(&follower) == ["follow b"])
  }

  @Test func whatNobodyKnowsIsFollowed() {
    var follower = follower(["a": Held(position(5)), "b": Held(database: nil, position: nil)])
    follower.news("a", .there(nil))
    follower.news("b", .there(position(5)))
    #expect(work(&follower) == ["follow a", "follow b"])
  }

  @Test func nothingIsRemovedBeforeAllWasTold() {
    var follower = follower(["a": Held(position(5)), "b": Held(position(5))])
    follower.news("a", .there(position(5)))
    #expect(work(&follower) == [])
    follower.linkLost()
    #expect(work(&follower) == [])
    follower.news("a", .there(position(5)))
    follower.listed()
    #expect(work(&follower) == ["remove b"])
  }

  /// What a listing that broke off had told is worth nothing to the next one.
  @Test func aSecondListingBeginsAnew() {
    var follower = follower(["a": Held(position(5)), "b": Held(position(5))])
    follower.news("b", .there(position(5)))
    follower.linkLost()
    follower.news("a", .there(position(5)))
    follower.listed()
    #expect(work(&follower) == ["remove b"])
  }

  @Test func anotherDatabaseOfThatNameIsRemovedFirst() {
    var follower = follower(["a": Held(position(5))])
    follower.news("a", .there(position(5, database: 8)))
    #expect(work(&follower) == ["remove a"])
    follower.finished("a", held: nil)
    #expect(work(&follower) == ["prepare a"])
    follower.finished("a", held: Held(position(5, database: 8)))
    #expect(work(&follower) == [])
  }

  /// News that was sent before the stream began says nothing of what came by the stream.
  @Test func newsIsHeldAgainstTheEndOfAStream() {
    var follower = follower(["a": Held(position(5))])
    follower.news("a", .there(position(6)))
    #expect(work(&follower) == ["follow a"])
    follower.streamBegan("a", 1)
    follower.news("a", .there(position(6)))
    follower.finished("a", held: Held(position(9)))
    #expect(work(&follower) == [])
    // The upstream parks it, and tells anew before this side has said where it stands.
    follower.streamEnded("a", 1)
    follower.news("a", .there(position(9)))
    #expect(work(&follower) == [])
    follower.streamReported("a", held: Held(position(9)))
    #expect(work(&follower) == [])
    follower.news("a", .there(position(10)))
    #expect(work(&follower) == ["follow a"])
  }

  @Test func theEndOfAnEarlierStreamIsNotThatOfThePresentOne() {
    var follower = follower(["a": Held(position(5))])
    follower.news("a", .there(position(6)))
    #expect(work(&follower) == ["follow a"])
    follower.streamBegan("a", 1)
    follower.finished("a", held: Held(position(6)))
    follower.streamReported("a", held: Held(position(6)))
    follower.streamBegan("a", 2)
    follower.streamEnded("a", 1)
    follower.news("a", .there(position(7)))
    #expect(work(&follower) == [])
    follower.streamReported("a", held: Held(position(8)))
    follower.streamEnded("a", 2)
    follower.news("a", .there(position(8)))
    #expect(work(&follower) == [])
  }

  @Test func copiesHoldBackNothingElse() {
    var follower = follower(["old": Held(position(1))])
    for name in ["a", "b", "c"] { follower.news(name, .there(position(3))) }
    follower.news("old", .there(position(2)))
    #expect(Set(work(&follower)) == ["follow old", "prepare a", "prepare b"])
    #expect(follower.isExpected("c"))
    follower.finished("a", held: Held(position(3)))
    #expect(work(&follower) == ["prepare c"])
  }

  /// A node tells its own followers that they know of everything only then.
  @Test func everythingIsHereOnceAllWasCopied() {
    var follower = follower(["a": Held(position(5))])
    follower.news("a", .there(position(9)))
    follower.news("b", .there(position(3)))
    #expect(!follower.hasEverything)
    follower.listed()
    #expect(!follower.hasEverything)
    #expect(work(&follower) == ["follow a", "prepare b"])
    #expect(!follower.hasEverything)
    follower.finished("b", held: Held(position(3)))
    #expect(follower.hasEverything)
    follower.linkLost()
    #expect(!follower.hasEverything)
  }

  @Test func whatFailedIsTriedAgainLater() {
    var follower = follower()
    follower.news("a", .there(position(3)))
    #expect(work(&follower) == ["prepare a"])
    follower.failed("a", held: nil)
    follower.news("a", .there(position(4)))
    #expect(work(&follower) == [])
    follower.resume("a")
    #expect(work(&follower) == ["prepare a"])
    // It is gone while it is being copied.
    follower.news("a", .gone)
    #expect(follower.isInVain("a"))
    follower.failed("a", held: nil)
    follower.resume("a")
    #expect(work(&follower) == [])
    #expect(!follower.isExpected("a"))
    #expect(follower.isIdle)
  }

  /// Every database ends where the upstream has it, in whatever order things are told and done.
  @Test func allIsWellInTheEnd() throws {
    for seed in 0..<300 {
      var random = TestRandom(seed: UInt64(seed))
      var above: [String: Position] = [:]
      var here: [String: Held] = [:]
      var follower = CatalogueFollower(held: [:], copiesMax: 2, worksMax: 2)
      var under: [(name: String, work: CatalogueFollower.Work)] = []
      func fact(_ name: String) -> ShipNews.Fact { above[name].map { .there($0) } ?? .gone }
      func end(_ index: Int) {
        let (name, work) = under.remove(at: index)
        switch work {
        case .remove: here[name] = nil
        case .prepare: here[name] = above[name].map { Held($0) }
        case .follow:
          if let position = above[name], position.database == here[name]?.database {
            here[name] = Held(position)
          } else {
            follower.failed(name, held: here[name])
            return follower.resume(name)
          }
        }
        if work == .prepare, here[name] == nil {
          follower.failed(name, held: nil)
          follower.resume(name)
        } else {
          follower.finished(name, held: here[name])
        }
      }
      for _ in 0..<200 {
        let name = "d\(Int.random(in: 0..<5, using: &random))"
        switch Int.random(in: 0..<6, using: &random) {
        case 0: above[name] = position(1, database: UInt64.random(in: 1...1000, using: &random))
        case 1: above[name] = nil
        case 2:
          if let position = above[name] {
            above[name] = Position(
              database: position.database, epoch: position.epoch, txid: position.txid.next,
              checksum: DatabaseChecksum(position.txid.rawValue + 1))
          }
        case 3:
          follower.linkLost()
          for name in above.keys { follower.news(name, fact(name)) }
          follower.listed()
        default: break
        }
        follower.news(name, fact(name))
        while let (name, work) = follower.next() { under.append((name, work)) }
        if !under.isEmpty, Bool.random(using: &random) {
          end(Int.random(in: 0..<under.count, using: &random))
        }
      }
      for number in 0..<5 { follower.news("d\(number)", fact("d\(number)")) }
      for _ in 0..<200 where !under.isEmpty || !follower.isIdle {
        while let (name, work) = follower.next() { under.append((name, work)) }
        if !under.isEmpty { end(0) }
      }
      #expect(follower.isIdle, "seed \(seed)")
      #expect(here == above.mapValues { Held($0) }, "seed \(seed)")
    }
  }
}

@Suite struct TrunkMessageTests {
  private let node = NodeIdentity(
    id: DatabaseID(high: 1, low: 2), name: "tokyo-1", software: "0.1.0", sqlite: "3.40.1")
  private let position = Position(
    database: DatabaseID(high: 3, low: 4), epoch: Epoch(2), txid: TXID(9),
    checksum: DatabaseChecksum(5))

  @Test func whatIsWrittenIsRead() throws {
    let attach = ShipAttach(
      node: node, catalogue: DatabaseID(high: 5, low: 6),
      filter: try #require(DatabaseFilter("eu-*,b")))
    #expect(try ShipAttach(decoding: attach.encode()) == attach)
    let catalogue = ShipCatalogue(
      node: node, lineage: [node.id], catalogue: DatabaseID(high: 5, low: 6))
    #expect(try ShipCatalogue(decoding: catalogue.encode()) == catalogue)
    for fact in [ShipNews.Fact.gone, .there(nil), .there(position)] {
      let news = ShipNews(name: "a", fact: fact)
      #expect(try ShipNews(decoding: news.encode()) == news)
    }
    let open = ShipOpen(
      name: "a", join: ShipJoin(node: node, want: .follow, position: position, pageSize: 4096))
    #expect(try ShipOpen(decoding: open.encode()) == open)
    let end = ShipEnd(.parked, "it rests")
    #expect(try ShipEnd(decoding: end.encode()) == end)
    #expect(try ShipWindow(decoding: ShipWindow(bytes: 77).encode()) == ShipWindow(bytes: 77))
    for act in [ShipChange.Act.create("a"), .drop("b"), .fork("a", to: "c")] {
      let change = ShipChange(number: 300, act: act, isAnonymous: act == .drop("b"))
      #expect(try ShipChange(decoding: change.encode()) == change)
    }
    let refused = ShipChanged.Failure(code: "DATABASE_EXISTS", message: "it is there", retry: false)
    let busy = ShipChanged.Failure(code: "SQLITE_BUSY", message: "in use", retry: true)
    for failure in [nil, refused, busy] {
      let changed = ShipChanged(number: 1, failure: failure)
      #expect(try ShipChanged(decoding: changed.encode()) == changed)
    }
  }

  @Test func messagesKeepTheirBodiesOnAStream() throws {
    var random = TestRandom(seed: 3)
    var plain = ByteBuffer()
    var bodies: [ByteBuffer] = []
    for _ in 0..<20 {
      let body = ByteBuffer(bytes: random.bytes(Int.random(in: 0...3000, using: &random)))
      bodies.append(body)
      plain.writeShipMessage(ShipMessage(.pages, body: body))
    }
    var buffer = ByteBuffer()
    try buffer.writeShipMessages(plain, stream: 513)
    for body in bodies {
      #expect(try buffer.readShipMessage() == ShipMessage(.pages, stream: 513, body: body))
    }
    #expect(buffer.readableBytes == 0)
    plain.moveWriterIndex(to: plain.writerIndex - 1)
    #expect(throws: ShipProtocolError.self) { try buffer.writeShipMessages(plain, stream: 1) }
  }

  @Test func noPrefixIsTakenForTheWhole() {
    let bodies: [(ByteBuffer, (ByteBuffer) throws -> Void)] = [
      (
        ShipAttach(node: node, catalogue: .zero, filter: .all).encode(),
        { _ = try ShipAttach(decoding: $0) }
      ),
      (
        ShipCatalogue(node: node, lineage: [node.id], catalogue: .zero).encode(),
        { _ = try ShipCatalogue(decoding: $0) }
      ),
      (
        ShipNews(name: "a", fact: .there(position)).encode(), { _ = try ShipNews(decoding: $0) }
      ),
      (
        ShipOpen(
          name: "a", join: ShipJoin(node: node, want: .copy, position: position, pageSize: 0)
        )
        .encode(), { _ = try ShipOpen(decoding: $0) }
      ),
      (ShipEnd(.closed, "so").encode(), { _ = try ShipEnd(decoding: $0) }),
      (ShipWindow(bytes: 7000).encode(), { _ = try ShipWindow(decoding: $0) }),
      (
        ShipChange(number: 7, act: .fork("a", to: "b"), isAnonymous: true).encode(),
        { _ = try ShipChange(decoding: $0) }
      ),
      (
        ShipChanged(number: 7, failure: .init(code: "X", message: "so", retry: false)).encode(),
        { _ = try ShipChanged(decoding: $0) }
      ),
    ]
    for (body, decode) in bodies {
      for count in 0..<body.readableBytes {
        let prefix = body.getSlice(at: body.readerIndex, length: count) ?? ByteBuffer()
        #expect(throws: ShipProtocolError.self) { try decode(prefix) }
      }
    }
  }
}
