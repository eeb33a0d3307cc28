// The line protocol over a socket: what goes in, what comes out, and in which order.

import EdgeTesting
import Foundation
import NIOCore
import Serving
import Store
import TestTraits
import Testing
import WALShip

private let numbersForThread =
  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<300000) "
  + "SELECT count(*) FROM c\n"

@Suite(.services) struct LineSessionTests {
  /// The beginning of a statement with a table `c` of the numbers up to `last`.
  private func numbers(_ last: Int) -> String {
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<\(last)) "
  }

  @Test func aRowGoesInAndComesOut() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      #expect(
        try client.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")["ok"] == .bool(true))
      let inserted = try client.ask(#"["INSERT INTO t(name) VALUES (?)", "Ada"]"#)
      #expect(inserted["changes"] == .integer(1))
      #expect(inserted["last_rowid"] == .integer(1))
      let read = try client.ask(
        #"{"id":7,"sql":"SELECT id, name FROM t WHERE id = :id","args":{"id":1}}"#)
      #expect(read["id"] == .integer(7))
      #expect(read["cols"] == .array([.string("id"), .string("name")]))
      #expect(read["rows"] == .array([.array([.integer(1), .string("Ada")])]))
      #expect(read.token == inserted.token)
      let returned = try client.ask("INSERT INTO t(name) VALUES ('B') RETURNING id")
      #expect(returned.scalar == .integer(2))
      #expect(returned["changes"] == .integer(1))
    }
  }

  @Test func answersComeInTheOrderOfTheRequests() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      var text = "CREATE TABLE t(n)\n"
      for number in 0..<200 {
        text += "{\"id\":\(number),\"sql\":\"INSERT INTO t VALUES (\(number))\"}\n"
        if number % 5 == 0 { text += "{\"id\":\"r\(number)\",\"sql\":\"SELECT max(n) FROM t\"}\n" }
        if number % 50 == 0 { text += "-- a comment\nnonsense\n" }
      }
      client.send(text)
      _ = try client.answer()
      for number in 0..<200 {
        #expect(try client.answer()["id"] == .integer(Int64(number)))
        if number % 5 == 0 {
          let read = try client.answer()
          #expect(read["id"] == .string("r\(number)"))
          #expect(read.scalar == .integer(Int64(number)))
        }
        if number % 50 == 0 { #expect(try client.answer().errorCode == "SQLITE_ERROR") }
      }
    }
  }

  @Test func pipelinedWritesDoNotWaitForEachOther() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      _ = try client.ask("CREATE TABLE t(n)")
      node.writer.log.withLock { $0 = [] }
      client.send(
        String(repeating: "INSERT INTO t VALUES (1)\n", count: 100) + "SELECT count(*) FROM t\n")
      for _ in 0..<100 { #expect(try client.answer()["changes"] == .integer(1)) }
      #expect(try client.answer().scalar == .integer(100))
      #expect(node.writer.log.withLock { $0.count } == 100)
    }
  }

  @Test func errorsSayWhereAndTheSessionGoesOn() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      let wrong = try client.ask("SELEC 1")
      #expect(wrong.errorCode == "SQLITE_ERROR")
      #expect(wrong["error"]?["offset"] == .integer(0))
      #expect(try client.ask("SELECT * FROM nowhere").errorCode == "SQLITE_ERROR")
      #expect(try client.ask(#"{"id":1,"sql":"SELECT ?"}"#).errorCode == "PROTOCOL")
      #expect(try client.ask("ATTACH 'x' AS y").errorCode == "NOT_ALLOWED")
      #expect(try client.ask("{}").errorCode == "PROTOCOL")
      #expect(try client.ask(#"{"sql":"SELECT 1; SELECT 2"}"#).errorCode == "PROTOCOL")
      #expect(try client.ask(#"{"sql":"SELECT 1","db":"other"}"#).errorCode == "DATABASE_NOT_FOUND")
      #expect(try client.ask(#"{"sql":"SELECT 1","key":"k"}"#).errorCode == "PROTOCOL")
      #expect(
        try client.ask(String(repeating: "x", count: (1 << 20) + 1)).errorCode == "LINE_TOO_LONG")
      #expect(try client.ask("SELECT 1").scalar == .integer(1))
      #expect(try client.ask("/* nothing */ ;")["ok"] == .bool(true))
    }
  }

  @Test func scriptsAndBatchesAreOneTransaction() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      let made = try client.ask("CREATE TABLE t(n UNIQUE); INSERT INTO t VALUES (1), (2); SELECT 1")
      #expect(made["results"]?.count == 3)
      #expect(made["results"]?[1]?["changes"] == .integer(2))
      let failed = try client.ask(
        #"{"batch":[{"sql":"INSERT INTO t VALUES (3)"},{"sql":"INSERT INTO t VALUES (1)"}]}"#)
      #expect(failed.errorCode == "SQLITE_CONSTRAINT_UNIQUE")
      #expect(failed["error"]?["failed"] == .integer(1))
      let reads = try client.ask("SELECT count(*) FROM t; SELECT max(n) FROM t")
      #expect(reads["results"]?[0]?["rows"]?[0]?[0] == .integer(2))
      #expect(reads["results"]?[1]?["rows"]?[0]?[0] == .integer(2))
      #expect(try client.ask("BEGIN; SELECT 1; COMMIT").errorCode == "NOT_ALLOWED")
      #expect(try client.ask(#"{"batch":[]}"#)["results"] == .array([]))
    }
  }

  @Test func largeResultsStream() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      let sql = numbers(100_000) + "SELECT n, hex(randomblob(50)) FROM c"
      client.send("{\"id\":\"s\",\"sql\":\"\(sql)\"}\nSELECT 5\n")
      var next: Int64 = 1
      var lines = 0
      while true {
        let line = try client.answer()
        #expect(line["id"] == .string("s"))
        #expect((line["cols"] != nil) == (lines == 0))
        lines += 1
        if case .array(let rows)? = line["rows"] {
          #expect(rows.count <= 256)
          for row in rows {
            #expect(row[0] == .integer(next))
            next += 1
          }
        }
        guard line["more"] == .bool(true) else {
          #expect(line.token != nil)
          break
        }
        #expect(line.token == nil)
      }
      #expect(next == 100_001)
      #expect(try client.answer().scalar == .integer(5))
    }
  }

  @Test func endlessStatementsAreStopped() async throws {
    var limits = ServingLimits()
    limits.statementMilliseconds = 300
    try await withNode(limits: limits) { (node) async throws in
      let client = try node.client()
      let endless =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c"
      #expect(try client.ask(endless).errorCode == "STATEMENT_TIMEOUT")
      #expect(try client.ask(endless + "; SELECT 1").errorCode == "STATEMENT_TIMEOUT")
      #expect(try client.ask("SELECT 1").scalar == .integer(1))
      #expect(node.node.readers.pool.counts.readers == 1)
    }
  }

  @Test func aClientThatDoesNotReadIsCutOffAndHoldsNoReader() async throws {
    var limits = ServingLimits()
    limits.unreadMilliseconds = 300
    limits.readersMax = 1
    try await withNode(limits: limits) { (node) async throws in
      let lazy = try node.client()
      lazy.send(numbers(1_000_000_000) + "SELECT n, zeroblob(100) FROM c\n")
      // It takes the first rows, and no more.
      #expect(lazy.line() != nil)
      try eventually("the end of the connection") { node.server.connectionCount == 0 }
      let client = try node.client()
      #expect(try client.ask(numbers(1000) + "SELECT count(*) FROM c").scalar == .integer(1000))
      #expect(node.node.readers.pool.counts.readers == 1)
    }
  }

  @Test func manyRequestsThatWaitAreAllAnswered() async throws {
    var limits = ServingLimits()
    limits.queuedBytesMax = 4096
    try await withNode(limits: limits) { (node) async throws in
      let client = try node.client()
      let reads = (0..<20_000).map { "SELECT \($0 % 100), 'some text to make it longer'\n" }
        .joined()
      let sender = Thread { client.send(numbersForThread + reads) }
      sender.start()
      #expect(try client.answer().scalar == .integer(300_000))
      for number in 0..<20_000 {
        guard try client.answer().scalar == .integer(Int64(number % 100)) else {
          Issue.record("answer \(number) is wrong")
          return
        }
      }
    }
  }

  @Test func halfClosedConnectionsGetAllAnswers() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      client.send("CREATE TABLE t(n)\nINSERT INTO t VALUES (1)\nSELECT count(*) FROM t\nSELECT 2")
      client.endInput()
      #expect(try client.answer()["ok"] == .bool(true))
      #expect(try client.answer()["changes"] == .integer(1))
      #expect(try client.answer().scalar == .integer(1))
      #expect(try client.answer().scalar == .integer(2))
      #expect(client.line() == nil)
    }
  }

  @Test func otherProtocolsAreTurnedAway() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      client.send("SELECT 1\nGET / HTTP/1.1\r\nHost: x\r\n\r\nSELECT 2\n")
      #expect(try client.answer().scalar == .integer(1))
      #expect(try client.answer().errorCode == "WRONG_PROTOCOL")
      #expect(client.line() == nil)
    }
  }

  @Test func tooManyConnectionsAreShed() async throws {
    var limits = ServingLimits()
    limits.connectionsMax = 2
    try await withNode(limits: limits) { (node) async throws in
      let first = try node.client()
      let second = try node.client()
      _ = try first.ask(".ping")
      _ = try second.ask(".ping")
      let third = try node.client()
      #expect(try third.answer().errorCode == "OVERLOADED")
      #expect(third.line() == nil)
      #expect(try first.ask("SELECT 1").scalar == .integer(1))
    }
  }

  @Test func aLineMustEndInTime() async throws {
    var limits = ServingLimits()
    limits.lineMilliseconds = 200
    try await withNode(limits: limits) { (node) async throws in
      let idle = try node.client()
      let slow = try node.client()
      #expect(try slow.ask("SELECT 1").scalar == .integer(1))
      slow.send("SELECT ")
      #expect(try slow.answer().errorCode == "PROTOCOL")
      #expect(slow.line() == nil)
      #expect(try idle.ask("SELECT 2").scalar == .integer(2))
    }
  }

  @Test func commandsAnswer() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      _ = try client.ask("CREATE TABLE people(id INTEGER PRIMARY KEY); CREATE TABLE _edge_x(a)")
      #expect(try client.ask(".ping")["pong"] == .bool(true))
      #expect(try client.ask(".tables")["rows"] == .array([.array([.string("people")])]))
      #expect(
        try client.ask(".schema people").scalar
          == .string("CREATE TABLE people(id INTEGER PRIMARY KEY)"))
      #expect(try client.ask(".databases")["databases"] == .array([.string("default")]))
      #expect(try client.ask(".use default")["ok"] == .bool(true))
      #expect(try client.ask(".use other").errorCode == "DATABASE_NOT_FOUND")
      #expect(try client.ask(".token").token != nil)
      let status = try client.ask(".status")
      #expect(status["role"] == .string("primary"))
      #expect(status["upstream"] == .null)
      let unknown = try client.ask(".tabels")
      #expect(unknown["error"]?["message"]?.text?.contains("did you mean .tables?") == true)
      #expect(try client.ask(".mode xml").errorCode == "PROTOCOL")
      _ = try client.ask(".ints text")
      #expect(try client.ask("SELECT 9007199254740993").scalar == .string("9007199254740993"))
      #expect(try client.ask(#"{"auth":"x"}"#)["ok"] == .bool(true))
      #expect(try client.ask("PRAGMA foreign_keys").scalar == .string("1"))
      _ = try client.ask("PRAGMA foreign_keys = off")
      #expect(try client.ask("PRAGMA foreign_keys").scalar == .string("0"))
      #expect(try client.ask(".quit")["ok"] == .bool(true))
      #expect(client.line() == nil)
    }
  }

  @Test func peopleGetText() async throws {
    try await withNode { (node) async throws in
      let client = try node.client()
      client.send(".mode table\nSELECT 1 AS a, 'x' AS b\nSELEC\n.mode csv\nSELECT 1 AS a\n")
      var lines: [String] = []
      for _ in 0..<10 { lines.append(client.line() ?? "-") }
      #expect(
        lines == [
          "ok", "+---+---+", "| a | b |", "+---+---+", "| 1 | x |", "+---+---+",
          #"Error: near "SELEC": syntax error [SQLITE_ERROR]"#, "ok", "a\r", "1\r",
        ])
    }
  }

  @Test func stoppingFinishesWhatWasBegun() async throws {
    let node = try await TestNode.start()
    let client = try node.client()
    let idle = try node.client()
    _ = try idle.ask(".ping")
    client.send(numbers(1_000_000) + "SELECT count(*) FROM c\n")
    try eventually("a reader") { node.node.readers.pool.counts.readers > 0 }
    await node.stop()
    #expect(try client.answer().scalar == .integer(1_000_000))
    #expect(client.line() == nil)
    #expect(idle.line() == nil)
  }
}
