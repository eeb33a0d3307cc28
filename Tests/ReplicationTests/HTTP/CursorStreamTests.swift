// Cursors whose results leave while SQLite makes them: they wait for their clients, and end with
// them.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

/// The statement of a cursor.
private func cursor(_ steps: [String], baton: String? = nil) -> String {
  let name = baton.map { "\"\($0)\"" } ?? "null"
  return "{\"baton\":\(name),\"batch\":{\"steps\":[\(steps.joined(separator: ","))]}}"
}

private func step(_ sql: String, _ more: String = "", if condition: String? = nil) -> String {
  let condition = condition.map { "\"condition\":\($0)," } ?? ""
  return "{\(condition)\"stmt\":{\"sql\":\"\(sql)\"\(more)}}"
}

/// Rows of about 160 bytes.
private func rows(_ count: Int, _ value: String = "n") -> String {
  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<\(count)) "
    + "SELECT \(value) AS v, hex(zeroblob(40)) AS pad FROM c"
}

/// More than the sockets of both sides hold.
private let long = rows(150_000)

/// It needs a reader of the pool.
private let sum =
  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<100000) SELECT sum(n) FROM c"

/// The entries of an answer.
private struct Entries {
  let baton: String?
  let entries: [JSONValue]

  init(_ text: String) throws {
    let lines = text.split(separator: "\n").map(String.init)
    baton = try JSONValue.parse(lines.first ?? "")["baton"]?.text
    entries = try lines.dropFirst().map { try JSONValue.parse($0) }
  }

  /// Their types, rows that follow each other as one.
  var shape: [String] {
    entries.map { $0["type"]?.text ?? "" }.reduce(into: []) { shape, type in
      if type != "row" || shape.last != "row" { shape.append(type) }
    }
  }

  /// The first values of all rows.
  var values: [String?] { entries.compactMap { $0["row"]?[0] }.map { $0["value"]?.text } }

  var errors: [JSONValue] { entries.compactMap { $0["error"] } }
}

@Suite(.services) struct CursorStreamTests {
  private static let roles = [NodeRole.primary, .replica]

  /// Time limits that no test reaches, and one reader for all who need one.
  private var patient: ServingLimits {
    var limits = ServingLimits()
    limits.readersMax = 1
    limits.statementMilliseconds = 3_600_000
    limits.readTransactionMilliseconds = 3_600_000
    limits.unreadMilliseconds = 3_600_000
    limits.streamIdleMilliseconds = 3_600_000
    return limits
  }

  private func entries(_ nodes: HTTPNodes, _ body: String) throws -> Entries {
    let answer = try nodes.client().request("POST", "/v3/cursor", body)
    guard answer.status == 200 else { throw TestFailure("\(answer.status): \(answer.text)") }
    return try Entries(answer.text)
  }

  /// A client that has asked for more than it takes.
  private func slowReader(_ nodes: HTTPNodes, _ body: String) throws -> (HTTPClient, [UInt8]) {
    let reader = try HTTPClient(port: nodes.port, receiveBytes: 4096)
    try reader.send(HTTPClient.text("POST", "/v3/cursor", body, headers: ["Connection: close"]))
    return (reader, try reader.read(1))
  }

  @Test(arguments: roles) func everyRowComesOnceAndInOrder(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role, limits: patient) { nodes in
      let count = 5000
      let ok = #"{"type":"ok","step":0}"#
      let found = try entries(
        nodes,
        cursor([
          step(rows(count)), step("SELECT 'second'", if: ok),
          step(rows(300), ",\"want_rows\":false"),
        ]))
      let one = ["step_begin", "row", "step_end"]
      #expect(found.shape == one + one + ["step_begin", "step_end", "replication_index"])
      #expect(found.values == (1...count).map { "\($0)" } + ["second"])
      #expect(found.entries[0]["cols"]?.elements.map { $0["name"]?.text } == ["v", "pad"])
    }
  }

  @Test(arguments: roles) func aStepFailsBehindItsFirstRows(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role, limits: patient) { nodes in
      let overflow = "abs(CASE n WHEN 3000 THEN -9223372036854775807 - 1 ELSE n END)"
      let found = try entries(
        nodes,
        cursor([
          step(rows(4000, overflow)), step("SELECT 1", if: #"{"type":"ok","step":0}"#),
          step("SELECT 'after'", if: #"{"type":"error","step":0}"#),
        ]))
      #expect(
        found.shape == [
          "step_begin", "row", "step_error", "step_begin", "row", "step_end", "replication_index",
        ])
      // What was not sent when the statement failed is not sent any more.
      let sent = found.values.count - 1
      #expect((1..<3000).contains(sent))
      #expect(found.values == (1...max(1, sent)).map { "\($0)" } + ["after"])
      #expect(found.errors.first?["message"]?.text == "SQLite error: integer overflow")
      #expect(found.entries.first { $0["type"] == "step_error" }?["step"] == 0)
      // JSON cannot hold it.
      let text = "CASE n WHEN 2000 THEN CAST(x'ff' AS TEXT) ELSE n END"
      let malformed = try entries(nodes, cursor([step(rows(4000, text)), step("SELECT 'after'")]))
      #expect(malformed.values == (1..<2000).map { "\($0)" } + ["after"])
      #expect(malformed.errors.map { $0["code"]?.text } == ["SQLITE_MISMATCH"])
    }
  }

  /// While a client does not read, its statement waits, and everybody else is served.
  @Test(arguments: roles) func othersAreServedWhileARowWaits(_ role: NodeRole) async throws {
    var limits = patient
    limits.readersMax = 2
    try await HTTPNodes.with(role, limits: limits) { nodes in
      _ = try nodes.results([execute("CREATE TABLE t(a)"), execute("INSERT INTO t VALUES (1)")])
      let (reader, first) = try slowReader(nodes, cursor([step(long), step("SELECT 'end'")]))
      #expect(try nodes.results([execute("INSERT INTO t VALUES (2)")])[0].code == nil)
      #expect(try nodes.results([execute("SELECT count(*) FROM t")])[0].value == "2")
      #expect(try nodes.results([execute(sum)])[0].value == "5000050000")
      let text = String(decoding: first + (try reader.readRest()), as: UTF8.self)
      #expect(text.ranges(of: "\"type\":\"row\"").count == 150_001)
      #expect(text.contains("\"replication_index\""))
    }
  }

  @Test(arguments: roles) func aCursorEndsWithItsClient(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role, limits: patient) { nodes in
      for begins in [false, true] {
        var baton: String?
        if begins { baton = try nodes.pipeline([execute("BEGIN")]).json["baton"]?.text }
        do { _ = try slowReader(nodes, cursor([step(long)], baton: baton)) }
        // There is one reader: it is free when the cursor has ended.
        #expect(try nodes.results([execute(sum)])[0].value == "5000050000")
      }
    }
  }

  @Test(arguments: roles) func whoReadsNothingIsCutOff(_ role: NodeRole) async throws {
    var limits = patient
    limits.unreadMilliseconds = 100
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let (reader, first) = try slowReader(nodes, cursor([step(long)]))
      #expect(try nodes.results([execute(sum)])[0].value == "5000050000")
      let text = String(decoding: first + (try reader.readRest()), as: UTF8.self)
      #expect(!text.contains("\"replication_index\""))
    }
  }

  /// Who reads, but too slowly, is told: a snapshot is not kept for ever.
  @Test(arguments: roles) func aSnapshotEndsAfterItsTime(_ role: NodeRole) async throws {
    var limits = patient
    limits.readTransactionMilliseconds = 100
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let (reader, first) = try slowReader(nodes, cursor([step(long), step("SELECT 'end'")]))
      #expect(try nodes.results([execute(sum)])[0].value == "5000050000")
      let text = String(decoding: first + (try reader.readRest()), as: UTF8.self)
      #expect(text.contains("\"step_error\",\"step\":0") && text.contains("were not taken within"))
      #expect(text.contains("\"value\":\"end\"") && text.contains("\"replication_index\""))
      // In a transaction, it is that which ends.
      let baton = try nodes.pipeline([execute("BEGIN")]).json["baton"]?.text
      let (second, begun) = try slowReader(
        nodes, cursor([step(long), step("SELECT 'end'")], baton: baton))
      #expect(try nodes.results([execute(sum)])[0].value == "5000050000")
      let rest = String(decoding: begun + (try second.readRest()), as: UTF8.self)
      #expect(rest.contains("\"step_error\",\"step\":0"))
      #expect(rest.contains("\"step_error\",\"step\":1") && rest.contains("TRANSACTION_TIMEOUT"))
    }
  }

  /// What a cursor has read in a transaction is checked when it writes.
  @Test(arguments: roles) func aTransactionKnowsWhatItsCursorsRead(_ role: NodeRole) async throws {
    var limits = patient
    limits.readersMax = 4
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let fill = "INSERT INTO t \(rows(1000))"
      _ = try nodes.results([execute("CREATE TABLE t(v, pad)"), execute(fill)])
      for isDisturbed in [false, true] {
        let begun = try nodes.pipeline([execute("BEGIN")]).json["baton"]?.text
        let found = try entries(
          nodes, cursor([step("SELECT v, pad FROM t ORDER BY v")], baton: begun))
        #expect(found.values.count == (isDisturbed ? 1001 : 1000))
        if isDisturbed { _ = try nodes.results([execute("DELETE FROM t WHERE v = 500")]) }
        let written = try nodes.results(
          [execute("INSERT INTO t VALUES (-1, 'x')"), execute("COMMIT")], baton: found.baton)
        #expect((written[0].code == nil) == !isDisturbed, "\(written)")
      }
    }
  }

  /// The baton is there at once; what it is used for waits until the cursor is over.
  @Test func theNextRequestOfTheStreamWaits() async throws {
    try await HTTPNodes.with(limits: patient) { nodes in
      let (reader, first) = try slowReader(nodes, cursor([step(long)]))
      var text = String(decoding: first, as: UTF8.self)
      while text.split(separator: "\n").count < 3 || !text.contains("base_url\":null}\n") {
        text += String(decoding: try reader.read(1), as: UTF8.self)
      }
      let line = text.split(whereSeparator: \.isNewline).first { $0.contains("\"baton\"") }
      let baton = try #require(try JSONValue.parse(String(line ?? ""))["baton"]?.text)
      let next = try nodes.client()
      let request = "{\"baton\":\"\(baton)\",\"requests\":[\(execute("SELECT 7"))]}"
      try next.send(HTTPClient.text("POST", "/v2/pipeline", request))
      #expect(try nodes.client().request("GET", "/health").status == 200)
      let rest = String(decoding: try reader.readRest(), as: UTF8.self)
      #expect(rest.contains("\"replication_index\""))
      #expect(try next.answer().json["results"]?[0]?.value == "7")
    }
  }
}
