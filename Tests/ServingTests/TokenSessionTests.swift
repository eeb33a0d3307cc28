// A read that shows a token sees at least that state, or gets a definite error; and the token of a
// read covers all that the read saw.

import EdgeTesting
import NIOCore
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct TokenSessionTests {
  private func request(_ token: Token, _ more: String = "") -> String {
    "{\"sql\":\"SELECT count(*) FROM t\",\"token\":\"\(token)\"\(more)}"
  }

  private func withTable(
    role: NodeRole = .replica, contact: @escaping @Sendable () -> UInt64? = { 0 },
    _ body: (TestNode, TestClient, Token) async throws -> Void
  ) async throws {
    try await withNode(role: role, contact: contact) { (node) async throws in
      let client = try node.client()
      let made = try client.ask("CREATE TABLE t(n); INSERT INTO t VALUES (1)")
      let token = try #require(made.token)
      try await body(node, client, token)
    }
  }

  private func later(_ token: Token, by count: UInt64 = 1) -> Token {
    Token(database: token.database, epoch: token.epoch, txid: TXID(token.txid.rawValue + count))
  }

  @Test func laterTokensFollowThePolicy() async throws {
    try await withTable { (node, _, token) async throws in
      let client = try node.client()
      let future = later(token)
      #expect(try client.ask(request(token)).scalar == .integer(1))
      let failed = try client.ask(request(future, #","wait_ms":20,"on_lag":"error""#))
      #expect(failed.errorCode == "TOKEN_TIMEOUT")
      let stale = try client.ask(request(future, #","wait_ms":20,"on_lag":"stale""#))
      #expect(stale["stale"] == .bool(true))
      #expect(stale.scalar == .integer(1))
      node.writer.log.withLock { $0 = [] }
      #expect(try client.ask(request(future, #","wait_ms":20"#)).scalar == .integer(1))
      guard case .read? = node.writer.log.withLock({ $0.last?.work }) else {
        Issue.record("the read should have been forwarded")
        return
      }
      #expect(node.node.tracker.waiterCount == 0)
    }
  }

  @Test func aWaitingReadWakesWithTheCommit() async throws {
    try await withTable { (node, client, token) async throws in
      let reader = try node.client()
      reader.send(request(later(token), #","wait_ms":10000,"on_lag":"error""#) + "\nSELECT 7\n")
      try eventually("a wait") { node.node.tracker.waiterCount > 0 }
      _ = try client.ask("INSERT INTO t VALUES (2)")
      #expect(try reader.answer().scalar == .integer(2))
      #expect(try reader.answer().scalar == .integer(7))
    }
  }

  @Test func thePrimaryChecksTokensToo() async throws {
    try await withTable(role: .primary) { (node, client, token) async throws in
      let future = later(token)
      #expect(try client.ask(request(future, #","wait_ms":20"#)).errorCode == "TOKEN_TIMEOUT")
      var other = token
      other.epoch = Epoch(token.epoch.rawValue + 1)
      #expect(try client.ask(request(other)).errorCode == "TOKEN_EPOCH")
      other.epoch = Epoch(0)
      #expect(try client.ask(request(other)).errorCode == "TOKEN_EPOCH")
      other = token
      other.database ^= 1
      #expect(try client.ask(request(other)).errorCode == "TOKEN_INVALID")
      #expect(try client.ask(#"{"sql":"SELECT 1","token":"rubbish"}"#).errorCode == "TOKEN_INVALID")
      #expect(try client.ask(request(token)).scalar == .integer(1))
    }
  }

  @Test func anEpochToComeIsWaitedForOnAReplica() async throws {
    try await withTable { (node, client, token) async throws in
      var other = token
      other.epoch = Epoch(token.epoch.rawValue + 1)
      let failed = try client.ask(request(other, #","wait_ms":20,"on_lag":"error""#))
      #expect(failed.errorCode == "TOKEN_TIMEOUT")
    }
  }

  @Test func readModes() async throws {
    try await withTable(contact: { 500 }) { (node, client, token) async throws in
      func ask(_ more: String) throws -> JSONValue {
        try client.ask("{\"sql\":\"SELECT count(*) FROM t\",\(more)}")
      }
      node.writer.log.withLock { $0 = [] }
      #expect(try ask(#""read":"latest""#).scalar == .integer(1))
      #expect(node.writer.log.withLock { $0.last?.work } == .position)
      #expect(try ask(#""read":"bounded","max_lag_ms":600"#).scalar == .integer(1))
      #expect(node.writer.log.withLock { $0.count } == 1)
      #expect(
        try ask(#""read":"bounded","max_lag_ms":100,"on_lag":"error""#).errorCode == "TOKEN_TIMEOUT"
      )
      #expect(
        try ask(#""read":"bounded","max_lag_ms":100,"on_lag":"stale""#)["stale"] == .bool(true))
      #expect(try ask(#""read":"bounded","max_lag_ms":100"#).scalar == .integer(1))
      #expect(try ask(#""read":"primary""#).scalar == .integer(1))
      #expect(node.writer.log.withLock { $0.count } == 3)
    }
  }

  @Test func anAnswerWaitsUntilWhatItSawHasANumber() async throws {
    try await withTable(role: .primary) { (node, client, token) async throws in
      for request in [
        "SELECT count(*) FROM t", "SELECT n FROM t\nSELECT count(n) FROM t",
        #"{"batch":[{"sql":"SELECT n FROM t"}]}"#, "BEGIN\nSELECT n FROM t\nCOMMIT",
      ] {
        let before = node.node.tracker.position.txid
        node.writer.holdsCapture.withLock { $0 = true }
        try node.writer.commitForeign("INSERT INTO t VALUES (0)")
        client.send(request + "\n")
        try eventually("a wait") { node.node.tracker.waiterCount > 0 }
        node.writer.holdsCapture.withLock { $0 = false }
        try node.writer.captureNow()
        for _ in 0..<request.split(separator: "\n").count {
          let answer = try client.answer()
          #expect(answer.errorCode == nil)
          #expect(answer.token?.txid == before.next)
        }
      }
    }
  }

  @Test func aConnectionReadsItsOwnWrites() async throws {
    try await withTable { (node, client, _) async throws in
      for number in 2..<100 {
        client.send("INSERT INTO t VALUES (\(number))\nSELECT count(*) FROM t\n")
        let written = try client.answer()
        let read = try client.answer()
        #expect(read.scalar == .integer(Int64(number)))
        #expect(read.token == written.token)
      }
    }
  }
}
