// A read on a stream of its own is answered on a shorter way: it must say what the long way says.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

@Suite(.services) struct HranaDirectReadTests {
  private static let close = #"{"type":"close"}"#

  private static let statements = [
    #"{"sql":"SELECT * FROM v ORDER BY id"}"#,
    #"{"sql":"SELECT id, b FROM v WHERE id = ?","args":[{"type":"integer","value":"2"}]}"#,
    #"{"sql":"SELECT r FROM v WHERE id = :id","named_args":[{"name":"id","value":{"type":"integer","value":"1"}}]}"#,
    #"{"sql":"SELECT * FROM v","want_rows":false}"#,
    #"{"sql":"SELECT count(*), sum(id) FROM v"}"#,
    #"{"sql":"SELECT count(*) FROM v"}"#,
    #"{"sql":"SELECT 'a\"b\\c\u0001é', x'00ff', 1e999, -0.0, 9223372036854775807"}"#,
    #"{"sql":"SELECT id FROM v WHERE id = 99"}"#,
    #"{"sql":"SELECT CAST(x'ff' AS TEXT)"}"#,
    #"{"sql":"SELECT abs(-9223372036854775807 - 1)"}"#,
    #"{"sql":"SELECT * FROM missing"}"#,
    #"{"sql":"SELEC 1"}"#,
    #"{"sql":"SELECT 1; SELECT 2"}"#,
    #"{"sql":"SELECT ?","args":[]}"#,
    #"{"sql":"SELECT ?","args":[{"type":"null"},{"type":"null"}]}"#,
    #"{"sql":"SELECT last_insert_rowid(), changes()"}"#,
    #"{"sql":"PRAGMA table_info(v)"}"#,
    #"{"sql":"EXPLAIN SELECT 1"}"#,
    #"{"sql":"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<2000) SELECT n FROM c"}"#,
    #"{"sql":"SELECT hex(zeroblob(100000))"}"#,
  ]

  @Test(arguments: [NodeRole.primary, .replica])
  func answersAreThoseOfAStream(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let client = try nodes.client()
      let made = try pipeline(
        client,
        [
          #"{"sql":"CREATE TABLE v(id INTEGER PRIMARY KEY, r REAL, t TEXT, b BLOB)"}"#,
          #"{"sql":"INSERT INTO v VALUES (1, 1.5, 'one', x'01'), (2, NULL, NULL, NULL)"}"#,
        ])
      #expect(made.text.contains("\"ok\"") && !made.text.contains("\"error\""), "\(made.text)")
      for statement in Self.statements {
        let direct = try pipeline(client, [statement])
        // Two of them are not answered on the short way.
        let long = try pipeline(client, [statement, statement])
        #expect(direct.status == 200 && long.status == 200, "\(statement): \(direct.text)")
        let one = try #require(try direct.json["results"]?[0])
        let other = try #require(try long.json["results"]?[0])
        #expect(comparable(one) == comparable(other), "\(statement)")
        #expect(try direct.json["results"]?[1] == long.json["results"]?[2], "\(statement)")
        #expect(try direct.json["baton"] == .null && direct.json["base_url"] == .null)
        #expect(direct.headers["edge-token"] == long.headers["edge-token"], "\(statement)")
      }
    }
  }

  private func pipeline(_ client: HTTPClient, _ statements: [String]) throws -> HTTPMessage {
    let requests = statements.map { "{\"type\":\"execute\",\"stmt\":\($0)}" } + [Self.close]
    return try client.request(
      "POST", "/v2/pipeline", "{\"requests\":[\(requests.joined(separator: ","))]}")
  }

  /// Without the time that it took.
  private func comparable(_ json: JSONValue) -> JSONValue {
    guard case .object(let members) = json else { return json }
    return .object(
      members.filter { $0.key != "query_duration_ms" }.map {
        JSONValue.Member($0.key, comparable($0.value))
      })
  }

  @Test func aReadWaitsForItsToken() async throws {
    try await HTTPNodes.with(.replica) { nodes in
      let client = try nodes.client()
      _ = try pipeline(client, [#"{"sql":"CREATE TABLE w(a)"}"#])
      for number in 1...50 {
        // Written past the node that is read.
        let written = try HTTPClient(port: try #require(nodes.primary.httpAddress?.port)).request(
          "POST", "/v1/execute", "{\"stmt\":{\"sql\":\"INSERT INTO w VALUES (\(number))\"}}")
        let token = try #require(written.headers["edge-token"])
        let body =
          "{\"requests\":[{\"type\":\"execute\",\"stmt\":{\"sql\":\"SELECT max(a) FROM w\"}},"
          + "\(Self.close)]}"
        let read = try client.request(
          "POST", "/v2/pipeline", body, headers: ["Edge-Token: \(token)"])
        let value = try read.json["results"]?[0]?["response"]?["result"]?["rows"]?[0]?[0]
        #expect(value?["value"]?.text == "\(number)", "\(read.text)")
      }
    }
  }
}
