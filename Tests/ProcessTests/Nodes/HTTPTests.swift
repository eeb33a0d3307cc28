// What HTTP clients send and get, byte for byte, on both roles.

import EdgeTesting
import Serving
import Testing

/// An answer of HTTP.
struct HTTPAnswer {
  var status: Int
  var headers: [String: String] = [:]
  var body: String

  /// Reads an answer until the connection ends.
  init(from connection: LineConnection) throws {
    guard let first = try connection.readLine(), first.hasPrefix("HTTP/1.1 ") else {
      throw TestFailure("no answer of HTTP")
    }
    status = Int(first.split(separator: " ")[1]) ?? 0
    while let line = try connection.readLine() {
      let line = line.hasSuffix("\r") ? String(line.dropLast()) : line
      if line.isEmpty { break }
      let parts = line.split(separator: ":", maxSplits: 1)
      headers[parts[0].lowercased()] = parts[1].drop { $0 == " " }.description
    }
    body = try connection.readRest()
  }

  var json: JSONValue {
    get throws { try JSONValue.parse(body) }
  }
}

extension NodeProcess {
  /// Sends one request on a connection of its own.
  func http(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) throws -> HTTPAnswer {
    let connection = try LineConnection(port: httpPort)
    let lines =
      ["\(method) \(path) HTTP/1.1", "Host: localhost", "Connection: close"]
      + ["Content-Length: \(body.utf8.count)"] + headers
    try connection.send(lines.joined(separator: "\r\n") + "\r\n\r\n" + body)
    return try HTTPAnswer(from: connection)
  }

  /// Runs requests of a stream.
  func pipeline(_ requests: [String], baton: String? = nil) throws -> JSONValue {
    let name = baton.map { "\"\($0)\"" } ?? "null"
    let answer = try http(
      "POST", "/v2/pipeline",
      "{\"baton\":\(name),\"requests\":[\(requests.joined(separator: ","))]}")
    guard answer.status == 200 else { throw TestFailure("\(answer.status): \(answer.body)") }
    return try answer.json
  }
}

/// A request that executes one statement.
private func execute(_ sql: String) -> String {
  "{\"type\":\"execute\",\"stmt\":{\"sql\":\"\(sql)\"}}"
}

extension NodeTests {
  @Suite struct HTTPTests {
    private func cluster(_ more: [String] = []) throws -> Cluster {
      let arguments = ["--http", "127.0.0.1:0"] + more
      return try Cluster(primaryArguments: arguments, replicaArguments: arguments)
    }

    private func text(_ json: JSONValue?) -> String? {
      guard case .string(let text)? = json else { return nil }
      return text
    }

    @Test func statusAndBodyOfEachRoute() throws {
      let cluster = try cluster()
      let table: [(String, String, String, Int, String)] = [
        ("GET", "/health", "", 200, "\"status\":\"ok\""), ("GET", "/v2", "", 200, "Hello"),
        ("GET", "/v3", "", 200, "Hello"), ("GET", "/v3-protobuf", "", 404, ""),
        ("GET", "/version", "", 200, "edge-sql"), ("GET", "/status", "", 200, "\"position\""),
        ("GET", "/metrics", "", 200, "# TYPE edge_sql_info gauge"), ("GET", "/nope", "", 404, ""),
        ("GET", "/v2/pipeline", "", 405, ""), ("OPTIONS", "/v2/pipeline", "", 200, ""),
        ("GET", "/dump", "", 200, "COMMIT;"), ("POST", "/v2/pipeline", "{", 400, "Cannot"),
        ("POST", "/v2/pipeline", #"{"requests":[{"type":"x"}]}"#, 400, "unknown type"),
        ("POST", "/v2/pipeline", #"{"baton":"AAAA","requests":[]}"#, 400, "invalid baton"),
        ("POST", "/v1/execute", #"{"stmt":{"sql":"SELECT 7"}}"#, 200, #""value":"7""#),
        ("POST", "/v1/execute", #"{"stmt":{"sql":"SELEC"}}"#, 400, "SQL_PARSE_ERROR"),
        ("POST", "/v1/execute", #"{"stmt":{"sql":"SELECT x"}}"#, 400, "(at offset 7)"),
        ("POST", "/v1/execute", #"{"stmt":{"sql":"SELECT * FROM x"}}"#, 500, "SQLITE_UNKNOWN"),
        (
          "POST", "/v1/batch", #"{"batch":{"steps":[{"stmt":{"sql":"SELECT 1; SELECT 2"}}]}}"#, 400,
          "SQL_MANY_STATEMENTS"
        ),
        (
          "POST", "/v1/batch", #"{"batch":{"steps":[{"stmt":{"sql":""}}]}}"#, 400,
          "SQL_NO_STATEMENT"
        ),
        (
          "POST", "/v1/execute", #"{"stmt":{"sql":"SELECT 1","want_rows":"yes"}}"#, 400,
          "want_rows"
        ),
        (
          "POST", "/v1/execute",
          #"{"stmt":{"sql":"SELECT hex(?)","args":[{"type":"blob","base64":"AAE="}]}}"#, 200, "0001"
        ),
        (
          "POST", "/v2/pipeline", #"{"requests":[{"type":"close"},{"type":"close"}]}"#, 200,
          #""baton":null"#
        ),
        ("POST", "/", #"{"statements":["SELECT nope"]}"#, 200, #"[{"error":"SQL input error"#),
        ("POST", "/", #"{"statements":["SELECT 7",{"q":"SELECT ?","params":["x"]}]}"#, 200, "[7]"),
        ("POST", "/", #"{"statements":["BEGIN"]}"#, 400, "transaction"),
        // Nothing to do has ended a node.
        ("POST", "/", #"{"statements":[]}"#, 200, "[]"),
        (
          "POST", "/v3/cursor", #"{"batch":{"steps":[{"stmt":{"sql":"SELECT 7"}}]}}"#, 200,
          "step_end"
        ),
      ]
      for node in cluster.nodes {
        for (method, path, body, status, part) in table {
          let answer = try node.http(method, path, body)
          #expect(answer.status == status, "\(method) \(path) \(body): \(answer.body)")
          if !part.isEmpty { #expect(answer.body.contains(part), "\(path): \(answer.body)") }
          #expect(answer.headers["access-control-allow-origin"] == "*")
        }
        let missing = try node.http("GET", "/dev/other/status")
        #expect(missing.status == 404)
      }
    }

    /// A result of 50 MB, beside clients that leave theirs unread.
    @Test func aCursorHasAnyLengthInLittleMemory() throws {
      let cluster = try cluster()
      let count = 5000
      func body(_ count: Int) -> String {
        let sql =
          "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<\(count)) "
          + "SELECT hex(zeroblob(5000)) AS v FROM c"
        return "{\"batch\":{\"steps\":[{\"stmt\":{\"sql\":\"\(sql)\"}}]}}"
      }
      for node in cluster.nodes {
        let client = try HTTPClient(port: node.httpPort)
        func bytes(_ count: Int) throws -> Int {
          let answer = try client.request("POST", "/v3/cursor", body(count))
          let end = String(decoding: answer.body.suffix(150), as: UTF8.self)
          #expect(answer.status == 200 && end.contains("replication_index"), "\(end)")
          return answer.body.count
        }
        let (few, more) = (try bytes(20), try bytes(21))
        let before = node.memoryBytes()
        var idle: [HTTPClient] = []
        for _ in 0..<8 {
          let other = try HTTPClient(port: node.httpPort, receiveBytes: 4096)
          try other.send(HTTPClient.text("POST", "/v3/cursor", body(count)))
          _ = try other.read(1)
          idle.append(other)
        }
        // The last entry tells a position, which may have become longer.
        let expected = few + (count - 20) * (more - few)
        #expect(abs(try bytes(count) - expected) < 20)
        #expect(expected > 50_000_000 && idle.count == 8)
        let grown = node.memoryBytes() - before
        note("\(grown >> 10) KiB more memory for nine cursors")
        // A sanitizer keeps what was freed.
        #expect(grown < 24 << 20 || Deadline.patience > 1)
      }
    }

    @Test func streamsKeepTheirTransactionByBaton() throws {
      let cluster = try cluster()
      for (number, node) in cluster.nodes.enumerated() {
        let table = "t\(number)"
        _ = try node.pipeline([execute("CREATE TABLE \(table)(a)")])
        let begun = try node.pipeline([
          execute("BEGIN"), execute("INSERT INTO \(table) VALUES (1)"),
        ])
        let baton = try #require(text(begun["baton"]))
        let inside = try node.pipeline([execute("SELECT a FROM \(table)")], baton: baton)
        #expect(inside["results"]?[0]?["response"]?["result"]?["rows"]?[0] != nil)
        // The first baton is used up, and the stream lives on.
        let again = try node.http(
          "POST", "/v2/pipeline", "{\"baton\":\"\(baton)\",\"requests\":[]}")
        #expect(again.status == 400)
        #expect(again.body.contains("already been used"))
        let other = try node.pipeline([execute("SELECT count(*) FROM \(table)")])
        #expect(
          text(other["results"]?[0]?["response"]?["result"]?["rows"]?[0]?[0]?["value"]) == "0")
        let next = try #require(text(inside["baton"]))
        let ended = try node.pipeline([execute("COMMIT"), "{\"type\":\"close\"}"], baton: next)
        #expect(ended["baton"] == .null)
        let after = try node.pipeline([execute("SELECT count(*) FROM \(table)")])
        #expect(
          text(after["results"]?[0]?["response"]?["result"]?["rows"]?[0]?[0]?["value"]) == "1")
      }
    }

    @Test func streamsThatWaitTooLongAreGone() throws {
      let cluster = try cluster(["--stream-idle", "200ms"])
      let begun = try cluster.replica.pipeline([execute("BEGIN IMMEDIATE")])
      let baton = try #require(text(begun["baton"]))
      try eventually("the stream expires") {
        let answer = try cluster.replica.http(
          "POST", "/v2/pipeline", "{\"baton\":\"\(baton)x\",\"requests\":[]}")
        guard answer.status == 400 else { return false }
        let late = try cluster.primary.pipeline([execute("CREATE TABLE IF NOT EXISTS free(a)")])
        return text(late["results"]?[0]?["type"]) == "ok"
      }
      let answer = try cluster.replica.http(
        "POST", "/v2/pipeline", "{\"baton\":\"\(baton)\",\"requests\":[]}")
      #expect(answer.body.contains("STREAM_EXPIRED"))
    }

    /// A write by way of one node is seen on the other by whoever shows its token.
    @Test func tokensReachOtherNodes() throws {
      let cluster = try cluster()
      _ = try cluster.primary.pipeline([execute("CREATE TABLE t(a)")])
      for number in 1...50 {
        let body = "{\"stmt\":{\"sql\":\"INSERT INTO t VALUES (\(number))\"}}"
        let written = try cluster.primary.http("POST", "/v1/execute", body)
        let token = try #require(written.headers["edge-token"])
        let seen = try cluster.replica.http(
          "POST", "/v1/execute", "{\"stmt\":{\"sql\":\"SELECT max(a) FROM t\"}}",
          headers: ["Edge-Token: \(token)"])
        #expect(seen.body.contains("\"value\":\"\(number)\""))
      }
      let wrong = try cluster.replica.http(
        "POST", "/v1/execute", "{\"stmt\":{\"sql\":\"SELECT 1\"}}", headers: ["Edge-Token: no"])
      #expect(wrong.status == 400)
      #expect(wrong.body.contains("TOKEN_INVALID"))
    }
  }
}
