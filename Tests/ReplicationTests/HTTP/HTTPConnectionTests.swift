// HTTP as bytes: what comes in pieces, in one piece, too much, too slowly, or not at all.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

/// A statement that takes long enough for a thread of the pool.
private let slow =
  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<200000) SELECT count(*) FROM c"
private let body = "{\"stmt\":{\"sql\":\"SELECT 7\"}}"

@Suite(.services) struct HTTPConnectionTests {
  @Test func answersComeInOrderOnOneConnection() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      var text = ""
      for number in 0..<100 {
        let sql = number == 0 ? slow : "SELECT \(number)"
        text += HTTPClient.text("POST", "/v1/execute", "{\"stmt\":{\"sql\":\"\(sql)\"}}")
      }
      try client.send(text + HTTPClient.text("GET", "/nope"))
      for number in 0..<100 {
        let answer = try client.answer().json
        let value = answer["result"]?["rows"]?[0]?[0]?["value"]?.text
        #expect(value == (number == 0 ? "200000" : "\(number)"))
      }
      #expect(try client.answer().status == 404)
      #expect(try client.request("GET", "/v3").status == 200)
    }
  }

  @Test func bodiesComeInPieces() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      for byte in HTTPClient.text("POST", "/v1/execute", body).utf8 {
        try client.send(bytes: [byte])
      }
      #expect(try client.answer().text.contains("\"7\""))
      try client.send("POST /v1/execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
      for part in [body.prefix(5), body.dropFirst(5)] {
        try client.send("\(String(part.utf8.count, radix: 16))\r\n\(part)\r\n")
      }
      try client.send("0\r\n\r\n")
      #expect(try client.answer().text.contains("\"7\""))
    }
  }

  @Test func whoAsksIsToldToContinue() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      for _ in 0..<2 {
        try client.send(
          "POST /v1/execute HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            + "Content-Length: \(body.utf8.count)\r\n\r\n")
        #expect(try client.answer().status == 100)
        try client.send(body)
        #expect(try client.answer().status == 200)
      }
    }
  }

  @Test func connectionsEndWhenTheClientSaysSo() async throws {
    try await HTTPNodes.with { nodes in
      for request in [
        HTTPClient.text("GET", "/v2", headers: ["Connection: close"]),
        "GET /v2 HTTP/1.0\r\n\r\n",
      ] {
        let client = try nodes.client()
        try client.send(request)
        let answer = try client.answer()
        #expect(answer.status == 200 && answer.headers["connection"] == "close")
        #expect(try client.readRest().isEmpty)
      }
      // Half a connection is enough for the answers.
      let client = try nodes.client()
      try client.send(HTTPClient.text("GET", "/v2") + HTTPClient.text("GET", "/v3"))
      client.finishSending()
      #expect(try client.answer().text.contains("v2"))
      #expect(try client.answer().text.contains("v3"))
      #expect(try client.readRest().isEmpty)
    }
  }

  @Test func row40_whatIsNoRequestIsRefused() async throws {
    let long = String(repeating: "a", count: 20_000)
    let table: [(String, Int)] = [
      ("no request\r\n\r\n", 400), ("GET / HTTP/3.7\r\n\r\n", 400),
      ("GET /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
      ("GET /v2 HTTP/1.1\r\nX: \(long)\r\n\r\n", 431), ("GET /\(long) HTTP/1.1\r\n\r\n", 431),
      (
        "GET /v2 HTTP/1.1\r\n" + (0..<40).map { "X\($0): \(long.prefix(500))\r\n" }.joined()
          + "\r\n", 431
      ),
      ("POST /v1/execute HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
    ]
    try await HTTPNodes.with { nodes in
      for (text, status) in table {
        let client = try nodes.client()
        // What comes before is answered.
        try client.send(HTTPClient.text("POST", "/v1/execute", body) + text)
        #expect(try client.answer().status == 200, "\(text.prefix(60))")
        #expect(try client.answer().status == status, "\(text.prefix(60))")
        #expect(try client.readRest().isEmpty)
      }
      let client = try nodes.client()
      try client.send("POST /v1/execute HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
      let piece = [UInt8](repeating: 32, count: 1 << 20)
      for _ in 0..<18 where client.trySend(bytes: Array("100000\r\n".utf8) + piece + [13, 10]) {}
      #expect(try client.answer().status == 413)
    }
  }

  @Test func row39_slowClientsAreCutOff() async throws {
    var limits = ServingLimits()
    limits.httpRequestMilliseconds = 300
    limits.httpIdleMilliseconds = 300
    try await HTTPNodes.with(limits: limits) { nodes in
      for beginning in [
        "GET", "GET /v2 HTTP/1.1\r\nHost: a\r\n",
        "POST /v1/execute HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
      ] {
        let client = try nodes.client()
        try client.send(beginning)
        #expect(try client.answer().status == 408)
        #expect(try client.readRest().isEmpty)
      }
      let idle = try nodes.client()
      #expect(try idle.request("GET", "/v2").status == 200)
      #expect(try idle.readRest().isEmpty)
    }
  }

  @Test func row42_whoDoesNotReadIsCutOff() async throws {
    var limits = ServingLimits()
    limits.unreadMilliseconds = 300
    try await HTTPNodes.with(limits: limits) { nodes in
      let client = try HTTPClient(port: nodes.port, receiveBytes: 4096)
      let sql = "SELECT zeroblob(3000000)"
      let request = HTTPClient.text("POST", "/v1/execute", "{\"stmt\":{\"sql\":\"\(sql)\"}}")
      try client.send(String(repeating: request, count: 8))
      try eventually("the connection is counted") { nodes.status.connections == 1 }
      try eventually("the connection is closed") { nodes.status.connections == 0 }
    }
  }

  @Test func linesAndHTTPShareOneLimit() async throws {
    var limits = ServingLimits()
    limits.connectionsMax = 2
    try await HTTPNodes.with(limits: limits) { nodes in
      var line: LineConnection? = try LineConnection(port: nodes.linePort)
      try line?.run("SELECT 1")
      let first = try nodes.client()
      #expect(try first.request("GET", "/v2").status == 200)
      let second = try nodes.client()
      #expect(try second.answer().status == 429)
      let other = try LineConnection(port: nodes.linePort)
      #expect(try other.receive().error == "OVERLOADED")
      line = nil
      try eventually("there is room again") {
        (try? nodes.client().request("GET", "/v2").status) == 200
      }
    }
  }

  @Test func longAnswersAreCompressedForThoseWhoAsk() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      let sql = "{\"stmt\":{\"sql\":\"SELECT hex(zeroblob(5000))\"}}"
      let plain = try client.request("POST", "/v1/execute", sql)
      #expect(plain.headers["content-encoding"] == nil && plain.body.count > 10_000)
      let asks = ["Accept-Encoding: gzip"]
      let packed = try client.request("POST", "/v1/execute", sql, headers: asks)
      #expect(packed.headers["content-encoding"] == "gzip")
      #expect(packed.body.count < 1000 && packed.body.starts(with: [0x1f, 0x8b]))
      let short = try client.request("POST", "/v1/execute", body, headers: asks)
      #expect(short.headers["content-encoding"] == nil && short.text.contains("\"7\""))
    }
  }

  @Test func methodsAndOrigins() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      let allowed = try client.request("OPTIONS", "/v2/pipeline")
      #expect(allowed.status == 200)
      #expect(allowed.headers["access-control-allow-origin"] == "*")
      #expect(allowed.headers["access-control-allow-methods"]?.contains("POST") == true)
      for path in ["/v2", "/dump", "/status"] {
        let head = try client.request("HEAD", path)
        #expect(head.status == 200 && head.body.isEmpty)
      }
      let wrong = try client.request("GET", "/v2/pipeline")
      #expect(wrong.status == 405 && wrong.headers["allow"] == "POST" && wrong.body.isEmpty)
      let unknown = try client.request("POST", "/v9")
      #expect(unknown.status == 404 && unknown.body.isEmpty)
      let metrics = try client.request("GET", "/metrics").text
      #expect(metrics.contains("# TYPE edge_sql_transactions_total counter\n"))
    }
  }
}
