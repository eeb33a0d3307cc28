// Hrana over HTTP, to the letter: what Turso's clients rely on, on both roles.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct HranaTests {
  private static let roles = [NodeRole.primary, .replica]

  @Test(arguments: roles) func valuesKeepTheirType(_ role: NodeRole) async throws {
    let table: [(String, String)] = [
      (#"{"type":"null"}"#, #"{"type":"null"}"#),
      (
        #"{"type":"integer","value":"-9223372036854775808"}"#,
        #"{"type":"integer","value":"-9223372036854775808"}"#
      ),
      (#"{"type":"float","value":1}"#, #"{"type":"float","value":1.0}"#),
      (#"{"type":"float","value":null}"#, #"{"type":"null"}"#),
      (#"{"type":"text","value":"é\n"}"#, #"{"type":"text","value":"é\n"}"#),
      (#"{"type":"blob","base64":"AAE="}"#, #"{"type":"blob","base64":"AAE"}"#),
      (#"{"type":"blob","base64":"AAE"}"#, #"{"type":"blob","base64":"AAE"}"#),
    ]
    try await HTTPNodes.with(role) { nodes in
      for (argument, value) in table {
        let answer = try nodes.pipeline([execute("SELECT ?", ",\"args\":[\(argument)]")])
        #expect(answer.text.contains("\"rows\":[[\(value)]]"), "\(answer.text)")
      }
      for name in ["x", ":x", "@x"] {
        let argument = "{\"name\":\"\(name)\",\"value\":{\"type\":\"integer\",\"value\":\"3\"}}"
        let sql = "SELECT \(name.hasPrefix("@") ? "@x" : ":x")"
        let results = try nodes.results([execute(sql, ",\"named_args\":[\(argument)]")])
        #expect(results[0].value == "3")
      }
      let infinite = try nodes.pipeline([execute("SELECT 9e999")])
      #expect(infinite.text.contains(#"{"type":"float","value":null}"#))
    }
  }

  @Test(arguments: roles) func errorsHaveTheCodesOfSqld(_ role: NodeRole) async throws {
    let both =
      #","args":[{"type":"null"}],"named_args":[{"name":"a","value":{"type":"null"}}]"#
    let table: [(String, String, String)] = [
      (execute("SELEC 1"), "SQL_PARSE_ERROR", "syntax error"),
      (execute(""), "SQL_NO_STATEMENT", "does not contain any statement"),
      (execute("-- nothing"), "SQL_NO_STATEMENT", ""),
      (execute("SELECT 1; SELECT 2"), "SQL_MANY_STATEMENTS", "more than one"),
      (execute("SELECT ?"), "ARGS_INVALID", "Arguments do not match"),
      (execute("SELECT ?", both), "ARGS_BOTH_POSITIONAL_AND_NAMED", ""),
      (execute("SELECT * FROM nope"), "SQLITE_UNKNOWN", "SQLite error: no such table: nope"),
      (execute("INSERT INTO k VALUES (1)"), "SQLITE_CONSTRAINT", "UNIQUE constraint failed: k.a"),
      (execute("ATTACH 'x' AS y"), "SQLITE_AUTH", ""),
      (#"{"type":"sequence","sql":"INSERT INTO k VALUES (5); SELEC"}"#, "SQL_PARSE_ERROR", ""),
      (#"{"type":"describe","sql":"SELECT * FROM nope"}"#, "SQLITE_UNKNOWN", ""),
    ]
    try await HTTPNodes.with(role) { nodes in
      let made = try nodes.results([
        execute("CREATE TABLE k(a UNIQUE)"), execute("INSERT INTO k VALUES (1)"),
      ])
      #expect(made.allSatisfy { $0.code == nil })
      for (request, code, message) in table {
        // What comes after it goes on.
        let results = try nodes.results([request, execute("SELECT count(*) FROM k")])
        #expect(results[0].code == code, "\(request): \(results[0])")
        #expect(results[0]["error"]?["message"]?.text?.contains(message) == true)
        #expect(results[1].value == "1", "\(request)")
      }
      let unique = try nodes.results([execute("INSERT INTO k VALUES (1)")])[0]
      #expect(unique["error"]?["extended_code"]?.text == "SQLITE_CONSTRAINT_UNIQUE")
    }
  }

  @Test func whatBreaksTheProtocolIsRefused() async throws {
    let execute7 = #"{"type":"execute","stmt":{"sql_id":7}}"#
    let table: [(String, String)] = [
      ("{\"type\":\"nope\"}", "Cannot deserialize client message from JSON: "),
      (execute("SELECT ?", #","args":[{"type":"integer","value":1}]"#), "Cannot deserialize"),
      (execute("SELECT ?", #","args":[{"type":"date","value":"1"}]"#), "Cannot deserialize"),
      (execute("SELECT ?", #","args":[{"type":"blob","base64":"%"}]"#), "Cannot deserialize"),
      (execute7, "SQL text 7 not found"),
      (#"{"type":"execute","stmt":{}}"#, "Either `sql` or `sql_id` are required"),
      (#"{"type":"execute","stmt":{"sql":"SELECT 1","sql_id":1}}"#, "but not both"),
      (
        #"{"type":"batch","batch":{"steps":[{"condition":{"type":"ok","step":0},"stmt":{"sql":"SELECT 1"}}]}}"#,
        "Invalid reference to step in a batch condition"
      ),
      (#"{"type":"close"},{"type":"get_autocommit"}"#, "close"),
    ]
    try await HTTPNodes.with { nodes in
      for (request, text) in table {
        let answer = try nodes.pipeline([request])
        #expect(answer.status == 400 && answer.headers["content-type"] == "text/plain")
        #expect(answer.text.contains(text), "\(request): \(answer.text)")
      }
      for body in ["", "[]", "{", "{}", #"{"requests":7}"#, #"{"baton":7,"requests":[]}"#] {
        #expect(try nodes.client().request("POST", "/v3/pipeline", body).status == 400, "\(body)")
      }
    }
  }

  @Test(arguments: roles) func batchesFollowTheirConditions(_ role: NodeRole) async throws {
    func step(_ sql: String, _ condition: String = "") -> String {
      let condition = condition.isEmpty ? "" : "\"condition\":\(condition),"
      return "{\(condition)\"stmt\":{\"sql\":\"\(sql)\"}}"
    }
    let steps = [
      step("CREATE TABLE b(a UNIQUE)"),
      step("INSERT INTO b VALUES (1)", #"{"type":"ok","step":0}"#),
      step("INSERT INTO b VALUES (1)"), step("SELECT 3", #"{"type":"ok","step":2}"#),
      step("SELECT 4", #"{"type":"error","step":3}"#),
      step("SELECT 5", #"{"type":"and","conds":[]}"#),
      step("SELECT 6", #"{"type":"or","conds":[]}"#),
      step("SELECT 7", #"{"type":"is_autocommit"}"#),
      step("SELECT 8", #"{"type":"not","cond":{"type":"ok","step":1}}"#),
    ]
    try await HTTPNodes.with(role) { nodes in
      let batch = "{\"type\":\"batch\",\"batch\":{\"steps\":[\(steps.joined(separator: ","))]}}"
      let result = try #require(try nodes.results([batch])[0].result)
      let ran = try #require(result["step_results"]).elements.map { $0 != .null }
      #expect(ran == [true, true, false, false, true, true, false, true, false])
      let failed = try #require(result["step_errors"]).elements.map { $0 != .null }
      #expect(failed == [false, false, true, false, false, false, false, false, false])
      #expect(result["step_results"]?[1]?["replication_index"] == .null)
      #expect(result["step_results"]?[1]?["last_insert_rowid"]?.text == "1")
      #expect(result["replication_index"]?.text != nil)
    }
  }

  @Test(arguments: roles) func scriptsStopAtTheirFirstError(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      var script = "CREATE TABLE s(a UNIQUE);"
      for number in 0..<2500 { script += "INSERT INTO s VALUES (\(number));" }
      let whole = "{\"type\":\"sequence\",\"sql\":\"BEGIN;\(script)COMMIT\"}"
      let counted = execute("SELECT count(*) FROM s")
      let results = try nodes.results([whole, "{\"type\":\"get_autocommit\"}", counted])
      #expect(results[0]["response"]?["type"]?.text == "sequence", "\(results[0])")
      #expect(results[1]["response"]?["is_autocommit"] == .bool(true))
      #expect(results[2].value == "2500")
      var second = "DELETE FROM s;"
      for number in 0..<2500 { second += "INSERT INTO s VALUES (\(number % 1500));" }
      let cut = try nodes.results(["{\"type\":\"sequence\",\"sql\":\"\(second)\"}", counted])
      #expect(cut[0].code == "SQLITE_CONSTRAINT")
      #expect(cut[1].value == "1500")
    }
  }

  @Test func textsAreStoredForAStream() async throws {
    try await HTTPNodes.with { nodes in
      let store = #"{"type":"store_sql","sql_id":1,"sql":"SELECT 41+1"}"#
      let first = try nodes.pipeline([store]).json
      let baton = try #require(first["baton"]?.text)
      let stored = #"{"type":"execute","stmt":{"sql_id":1}}"#
      #expect(try nodes.pipeline([store], baton: baton).text == "SQL text 1 already exists")
      // That cost the client nothing: its baton is good as before.
      let second = try nodes.pipeline([stored, #"{"type":"close_sql","sql_id":1}"#], baton: baton)
        .json
      #expect(second["results"]?[0]?.value == "42")
      let many = (0...150).map { "{\"type\":\"store_sql\",\"sql_id\":\($0),\"sql\":\"SELECT 1\"}" }
      let results = try nodes.results(many)
      #expect(results[149].code == nil && results[150].code == "SQL_STORE_TOO_MANY")
      let long = String(repeating: "x", count: 300_000)
      let large = try nodes.results(["{\"type\":\"store_sql\",\"sql_id\":1,\"sql\":\"\(long)\"}"])
      #expect(large[0].code == "SQL_STORE_TOO_LARGE")
    }
  }

  @Test(arguments: roles) func batonsAreGoodOnce(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let first = try #require(
        try nodes.pipeline([
          execute("CREATE TABLE t(a)"), execute("BEGIN"), execute("INSERT INTO t VALUES (1)"),
        ]).json["baton"]?.text)
      var baton = first
      // Each of these requests comes by another connection, most of them on another loop.
      for number in 1...10 {
        let answer = try nodes.pipeline(
          [execute("SELECT count(*) FROM t"), execute("INSERT INTO t VALUES (\(number))")],
          baton: baton
        ).json
        #expect(answer["results"]?[0]?.value == "\(number)")
        let next = try #require(answer["baton"]?.text)
        #expect(next != baton)
        let stale = try nodes.pipeline([], baton: baton)
        #expect(stale.status == 400)
        #expect(stale.text == "Received a baton that has already been used")
        baton = next
      }
      let other = (baton.hasPrefix("A") ? "B" : "A") + baton.dropFirst()
      for wrong in ["", "AAAA", String(baton.dropLast(3)), other] {
        let answer = try nodes.pipeline([], baton: wrong)
        #expect(answer.status == 400 && answer.text == "Received an invalid baton")
      }
      let ended = try nodes.pipeline([execute("COMMIT"), "{\"type\":\"close\"}"], baton: baton).json
      #expect(ended["baton"] == .null)
      let closed = try nodes.pipeline([], baton: baton)
      #expect(closed.status == 400)
      #expect(try nodes.results([execute("SELECT count(*) FROM t")])[0].value == "11")
    }
  }

  @Test(arguments: roles) func streamsExpire(_ role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.streamIdleMilliseconds = 200
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let begun = try nodes.pipeline([
        execute("CREATE TABLE t(a)"), execute("BEGIN IMMEDIATE"),
        execute("INSERT INTO t VALUES (1)"),
      ]).json
      let baton = try #require(begun["baton"]?.text)
      // Its transaction held the writer, until it was over.
      #expect(try nodes.results([execute("INSERT INTO t VALUES (2)")])[0].code == nil)
      let answer = try nodes.pipeline([], baton: baton)
      #expect(answer.status == 400)
      #expect(try answer.json["code"]?.text == "STREAM_EXPIRED")
      #expect(try nodes.results([execute("SELECT sum(a) FROM t")])[0].value == "2")
    }
  }

  @Test func streamsHaveABound() async throws {
    var limits = ServingLimits()
    limits.streamsMax = 3
    try await HTTPNodes.with(limits: limits) { (nodes) throws in
      for _ in 0..<3 { #expect(try nodes.pipeline([execute("SELECT 1")]).status == 200) }
      #expect(try nodes.pipeline([execute("SELECT 1")]).status == 429)
    }
  }
}
