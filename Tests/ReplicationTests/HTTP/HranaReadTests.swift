// What Hrana's clients read: cursors, descriptions, tokens, the older requests; and who may.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing
import WALShip

/// Knows two words, and what they are worth.
@Suite(.services) struct HranaReadTests {
  private static let roles = [NodeRole.primary, .replica]

  @Test(arguments: roles) func cursorsAreOneEntryALine(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      _ = try nodes.results([execute("CREATE TABLE c(a INTEGER, b TEXT)")])
      let steps = [
        "INSERT INTO c VALUES (1,'x'),(2,'y')", "SELECT a, b, a+1 FROM c ORDER BY a",
        "SELECT * FROM nope",
      ].map { "{\"stmt\":{\"sql\":\"\($0)\"}}" }
      let skipped = #"{"condition":{"type":"ok","step":2},"stmt":{"sql":"SELECT 1"}}"#
      let body = "{\"batch\":{\"steps\":[\((steps + [skipped]).joined(separator: ","))]}}"
      let answer = try nodes.client().request("POST", "/v3/cursor", body)
      #expect(answer.status == 200 && answer.headers["transfer-encoding"] == "chunked")
      let lines = answer.text.split(separator: "\n").map(String.init)
      #expect(lines[0].hasPrefix(#"{"baton":""#) && lines[0].hasSuffix(#","base_url":null}"#))
      let index = try JSONValue.parse(lines.last ?? "")["replication_index"]?.integer
      #expect(index != nil)
      #expect(
        Array(lines[1..<lines.count - 1]) == [
          #"{"type":"step_begin","step":0,"cols":[]}"#,
          #"{"type":"step_end","affected_row_count":2,"last_insert_rowid":2}"#,
          #"{"type":"step_begin","step":1,"cols":[{"name":"a","decltype":"INTEGER"}"#
            + #",{"name":"b","decltype":"TEXT"},{"name":"a+1","decltype":null}]}"#,
          #"{"type":"row","row":[{"type":"integer","value":"1"},{"type":"text","value":"x"}"#
            + #",{"type":"integer","value":"2"}]}"#,
          #"{"type":"row","row":[{"type":"integer","value":"2"},{"type":"text","value":"y"}"#
            + #",{"type":"integer","value":"3"}]}"#,
          #"{"type":"step_end","affected_row_count":0,"last_insert_rowid":null}"#,
          #"{"type":"step_error","step":2"#
            + #","error":{"message":"SQLite error: no such table: nope","code":"SQLITE_UNKNOWN""#
            + #","extended_code":"SQLITE_ERROR"}}"#,
        ])
      // Its baton goes on as that of a pipeline.
      let baton = try #require(try JSONValue.parse(lines[0])["baton"]?.text)
      #expect(try nodes.results([execute("SELECT 7")], baton: baton)[0].value == "7")
      let wrong = try nodes.client().request(
        "POST", "/v3/cursor", #"{"batch":{"steps":[{"stmt":{"sql":"SELEC"}}]}}"#)
      #expect(wrong.status == 500)
    }
  }

  @Test(arguments: roles) func statementsAreDescribed(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      _ = try nodes.results([execute("CREATE TABLE d(a INTEGER)")])
      let results = try nodes.results([
        #"{"type":"describe","sql":"SELECT a, :x, ?2 FROM d; SELECT 2"}"#,
        #"{"type":"describe","sql":"DELETE FROM d"}"#,
        execute("SELECT a FROM d, (SELECT 1)", ",\"want_rows\":false"),
        execute("INSERT INTO d VALUES (1),(2)"), execute("SELECT a FROM d", ",\"want_rows\":false"),
      ])
      let first = try #require(results[0].result)
      #expect(first["params"]?.elements.map { $0["name"]?.text } == [":x", "?2"])
      #expect(first["cols"]?[0]?["decltype"]?.text == "INTEGER")
      #expect(first["is_readonly"] == .bool(true))
      #expect(results[1].result?["is_readonly"] == .bool(false))
      #expect(results[3].result?["affected_row_count"] == 2)
      #expect(results[4].result?["rows"] == .array([]))
      #expect(results[4].result?["rows_read"] == 2)
    }
  }

  @Test(arguments: roles) func anIndexIsAToken(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let written = try nodes.pipeline([execute("CREATE TABLE t(a)")])
      let token = try #require(written.headers["edge-token"].flatMap { Token($0) })
      let index = try written.json["results"]?[0]?.result?["replication_index"]?.text
      #expect(index == "\(token.replicationIndex)")
      for known in ["\"\(token.replicationIndex)\"", "\(token.replicationIndex)", "null"] {
        let read = try nodes.results([execute("SELECT 1", ",\"replication_index\":\(known)")])
        #expect(read[0].value == "1", "\(known)")
      }
      // A history that never was, or is no more.
      for lost in [5, token.replicationIndex + 7 << 40] {
        let read = try nodes.results([execute("SELECT 1", ",\"replication_index\":\(lost)")])
        #expect(read[0].code?.hasPrefix("TOKEN_") == true, "\(lost): \(read)")
      }
      let shown = try nodes.pipeline([execute("SELECT 1")], headers: ["Edge-Token: \(token)"])
      #expect(shown.status == 200 && shown.headers["edge-token"] == "\(token)")
    }
  }

  @Test(arguments: roles) func olderRequestsNeedNoStream(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let client = try nodes.client()
      let batch =
        #"{"batch":{"steps":[{"stmt":{"sql":"CREATE TABLE o(a)"}},{"stmt":{"sql":"INSERT INTO o VALUES (x'01')"}}]}}"#
      let made = try client.request("POST", "/v1/batch", batch)
      #expect(made.status == 200)
      #expect(try made.json["result"]?["step_results"]?[1]?["affected_row_count"] == 1)
      let failed = try client.request("POST", "/v1/execute", #"{"stmt":{"sql":"SELECT x"}}"#)
      #expect(failed.status == 400)
      #expect(failed.text.contains(#""code":"SQL_INPUT_ERROR""#), "\(failed.text)")
      let legacy = try client.request(
        "POST", "/",
        #"{"statements":[{"q":"SELECT a, 1.5 FROM o WHERE 1=:n","params":{"n":1}},"SELECT nope"]}"#)
      #expect(legacy.status == 200)
      #expect(legacy.text.contains(#""rows":[[{"base64":"AQ"},1.5]]"#), "\(legacy.text)")
      #expect(try legacy.json[1]?["error"] != nil)
      let open = try client.request("POST", "/v1/execute", #"{"stmt":{"sql":"BEGIN"}}"#)
      #expect(open.status == 200)
      let after = try client.request("POST", "/v1/execute", #"{"stmt":{"sql":"COMMIT"}}"#)
      #expect(after.status == 500)
    }
  }

  @Test(arguments: roles) func credentialsDecideForTheWholeRequest(_ role: NodeRole) async throws {
    let table: [(String?, Int, String)] = [
      (nil, 401, "Unauthorized: `Expected authorization header but none given`"),
      ("Bearer nobody", 401, "Unauthorized: `The JWT is invalid`"),
      ("Bearer late", 401, "Unauthorized: `The JWT has expired`"),
      ("Bearer stranger", 404, "Namespace `default` doesn't exist"),
      ("Bearer reader", 403, ""), ("Bearer writer", 200, ""),
    ]
    try await HTTPNodes.with(role, verifier: Words.usual) { nodes in
      let writes = [execute("SELECT 1"), execute("CREATE TABLE IF NOT EXISTS w(a)")]
      for (header, status, text) in table {
        let headers = header.map { ["Authorization: \($0)"] } ?? []
        let answer = try nodes.pipeline(writes, headers: headers)
        #expect(answer.status == status, "\(header ?? "none"): \(answer.text)")
        if !text.isEmpty { #expect(try answer.json["error"]?.text == text) }
        if status == 403 { #expect(try answer.json["results"] == nil) }
      }
      let reads = try nodes.pipeline(
        [execute("SELECT count(*) FROM w")], headers: ["Authorization: Bearer reader"])
      #expect(reads.status == 200)
    }
    try await HTTPNodes.with(role) { nodes in
      for header in ["Bearer ", "Bearer None", "Bearer x.y.z"] {
        let answer = try nodes.pipeline(
          [execute("SELECT 1")], headers: ["Authorization: \(header)"])
        #expect(answer.status == 200)
      }
    }
  }

  @Test func aDatabaseIsChosenAndHostsAreNot() async throws {
    try await HTTPNodes.with { nodes in
      let body = "{\"stmt\":{\"sql\":\"SELECT 7\"}}"
      let client = try nodes.client()
      for (path, headers, status) in [
        ("/v1/execute", [], 200), ("/dev/default/v1/execute", [], 200),
        ("/dev/other/v1/execute", [], 404), ("/v1/execute", ["x-namespace: default"], 200),
        ("/v1/execute", ["x-namespace: other"], 404),
      ] {
        let answer = try client.request("POST", path, body, headers: headers)
        #expect(answer.status == status, "\(path) \(headers)")
      }
      for host in ["localhost:1", "127.0.0.1", "[::1]:80", "db.example.org", "a.b"] {
        try client.send(
          "POST /v1/execute HTTP/1.1\r\nHost: \(host)\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
            + body)
        #expect(try client.answer().status == 200, "\(host)")
      }
    }
  }
}
