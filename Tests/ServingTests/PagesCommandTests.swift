// `.pages`, as a client that copies the database uses it.

import NIOCore
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct PagesCommandTests {
  /// The ship messages in an answer of one line.
  private func messages(_ answer: JSONValue) throws -> [ShipMessage] {
    let text = try #require(answer["data"]?.text)
    let bytes = try #require(Array(text.utf8).withUnsafeBytes { Base64.decode($0) })
    var buffer = ByteBuffer(bytes: bytes)
    var found: [ShipMessage] = []
    while let message = try buffer.readShipMessage() { found.append(message) }
    #expect(buffer.readableBytes == 0)
    return found
  }

  private func filled(_ client: TestClient) throws {
    _ = try client.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
    let filled = try client.ask(
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<200) "
        + "INSERT INTO t SELECT n, randomblob(3000) FROM c")
    #expect(filled.errorCode == nil)
  }

  @Test func partsHoldEveryPageOnce() async throws {
    try await withNode { node in
      let client = try node.client()
      try filled(client)
      var after: Int64? = 0
      var pages: Int64 = 0
      var parts = 0
      while let cursor = after, parts < 100 {
        let answer = try client.ask(".pages 0 \(cursor)")
        #expect(try messages(answer).allSatisfy { $0.kind == .pages })
        #expect(answer["epoch"] == .integer(1))
        #expect(answer["began"] == .integer(Int64(node.writer.tracker.position.txid.rawValue)))
        if case .integer(let count)? = answer["pages"] { pages += count }
        after = nil
        if case .integer(let next)? = answer["next"] { after = next }
        parts += 1
      }
      #expect(parts > 2)
      let count = try client.ask("SELECT page_count FROM pragma_page_count()")
      #expect(count.scalar == .integer(pages))
    }
  }

  @Test func partEndsWhereItWasAskedTo() async throws {
    try await withNode { node in
      let client = try node.client()
      try filled(client)
      let part = try client.ask(".pages 0 3 10")
      #expect(part["pages"] == .integer(7))
      #expect(part["next"] == .null)
      #expect(try client.ask(".pages 0 100000")["pages"] == .integer(0))
    }
  }

  @Test func finalRoundHasWhatChangedAndItsPosition() async throws {
    try await withNode { node in
      let client = try node.client()
      try filled(client)
      let head = node.writer.tracker.position.txid
      _ = try client.ask("UPDATE t SET v = NULL WHERE id = 100")
      let answer = try client.ask(".pages \(head) final")
      let found = try messages(answer)
      #expect(found.map(\.kind) == [.pages, .roundEnd])
      let end = try ShipRoundEnd(decoding: try #require(found.last).body)
      #expect(end.position == node.writer.tracker.position)
      #expect(end.isConsistent)
      let none = try messages(try client.ask(".pages \(end.position.txid) final"))
      #expect(none.map(\.kind) == [.roundEnd])
    }
  }

  /// On a replica a transaction is visible a moment before the page map knows of it: its pages are
  /// not damaged then, and must not be missing from a final round.
  @Test func stateThatThePageMapDoesNotKnowYetIsNotRead() async throws {
    try await withNode { node in
      let client = try node.client()
      try filled(client)
      let tracker = node.writer.tracker
      var next = tracker.position
      next.txid = next.txid.next
      try node.writer.commitForeign("UPDATE t SET v = NULL WHERE id = 1")
      let pin = try SnapshotPin(
        path: node.directory.database, pageSize: try #require(PageSize(4096)))
      let place = try pin.open { $0 }.1
      pin.close()
      tracker.announce(next, at: place)
      for request in [".pages 0 0", ".pages 0 final"] {
        let early = try client.ask(request)
        #expect(early.errorCode == "SQLITE_BUSY", "\(early)")
        #expect(early["error"]?["retry"] == .bool(true))
      }
      try node.writer.captureNow()
      #expect(try client.ask(".pages \(next.txid.rawValue - 1) final")["began"] != nil)
      #expect(try client.ask(".pages 0 0").errorCode == nil)
    }
  }

  @Test func answersKeepTheirOrder() async throws {
    try await withNode { node in
      let client = try node.client()
      try filled(client)
      client.send(".pages 0 0\n.ping\n.pages 0 64 70\nSELECT 1\n")
      #expect(try client.answer()["data"] != nil)
      #expect(try client.answer()["pong"] == .bool(true))
      #expect(try client.answer()["pages"] == .integer(6))
      #expect(try client.answer().scalar == .integer(1))
    }
  }

  @Test(arguments: ["", "0", "x 0", "0 x", "0 -1", "0 0 x", "0 final 9", "0 0 0 0"])
  func wordsThatAreNoPlaceAreRefused(_ words: String) async throws {
    try await withNode { node in
      let client = try node.client()
      #expect(try client.ask(".pages \(words)").errorCode == "PROTOCOL")
    }
  }
}
