// Answers on the two ways they can take: as bytes, and through NIO's handlers once a client has asked
// for compression.

import EdgeTesting
import NIOCore
import Serving
import TestTraits
import Testing

@Suite(.services) struct HTTPAnswerTests {
  private static let asksGzip = "Accept-Encoding: gzip"
  private static let large =
    #"{"stmt":{"sql":"SELECT printf('%.3000c', 'x')"}}"#
  private static let small = #"{"stmt":{"sql":"SELECT 'small'"}}"#
  private static let steps =
    #"{"batch":{"steps":[{"stmt":{"sql":"SELECT 1 UNION ALL SELECT 2"}}]}}"#

  @Test func compressionBeginsWithWhoAsksForIt() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      let plain = try client.request("POST", "/v1/execute", Self.large)
      #expect(plain.headers["content-encoding"] == nil)
      #expect(plain.body.count > 3000)
      let packed = try client.request(
        "POST", "/v1/execute", Self.large, headers: [Self.asksGzip])
      #expect(packed.headers["content-encoding"] == "gzip")
      #expect(packed.body.count < 1000)
      let short = try client.request(
        "POST", "/v1/execute", Self.small, headers: [Self.asksGzip])
      #expect(short.headers["content-encoding"] == nil)
      // Who does not ask any more gets what it can read, on the same connection.
      let again = try client.request("POST", "/v1/execute", Self.large)
      #expect(again.headers["content-encoding"] == nil)
      #expect(try result(again) == result(plain))
    }
  }

  /// What was selected: the times beside it differ.
  private func result(_ message: HTTPMessage) throws -> JSONValue? {
    try message.json["result"]?["rows"]
  }

  @Test func answersOfBothWaysKeepTheirOrder() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      // All at once: those before the first that asks for compression are answered as bytes.
      var text = ""
      for number in 0..<40 {
        let body = "{\"stmt\":{\"sql\":\"SELECT \(number)\"}}"
        let headers = number == 20 || number == 30 ? [Self.asksGzip] : []
        text += HTTPClient.text("POST", "/v1/execute", body, headers: headers)
        if number % 10 == 5 { text += HTTPClient.text("POST", "/v3/cursor", Self.steps) }
      }
      try client.send(text)
      for number in 0..<40 {
        let value = try client.answer().json["result"]?["rows"]?[0]?[0]?["value"]?.text
        #expect(value == "\(number)")
        guard number % 10 == 5 else { continue }
        let cursor = try client.answer()
        #expect(cursor.headers["transfer-encoding"] == "chunked")
        #expect(cursor.text.contains("\"step_end\""))
      }
    }
  }

  @Test func routesAreLookedUpForEachRequest() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      for _ in 0..<2 {
        #expect(try client.request("POST", "/v1/execute", Self.small).status == 200)
        #expect(try client.request("GET", "/v1/execute").status == 405)
        #expect(try client.request("POST", "/v1/nothing", Self.small).status == 404)
        #expect(
          try client.request(
            "POST", "/v1/execute", Self.small, headers: ["x-namespace: elsewhere"]
          ).status == 404)
        #expect(try client.request("POST", "/v1/execute?a=b", Self.small).status == 200)
        #expect(try client.request("GET", "/v2?x").text.contains("v2"))
      }
    }
  }

  @Test func aStreamThatClosesAtOnceLeavesNothing() async throws {
    try await HTTPNodes.with { nodes in
      let client = try nodes.client()
      let close = #"{"type":"close"}"#
      let begin = #"{"type":"execute","stmt":{"sql":"BEGIN IMMEDIATE"}}"#
      let write = #"{"type":"execute","stmt":{"sql":"CREATE TABLE brief(a)"}}"#
      let left = try client.request(
        "POST", "/v2/pipeline", "{\"requests\":[\(begin),\(write),\(close)]}")
      #expect(try left.json["baton"] == .null)
      // What was not committed is rolled back, and the writer is free for the next one.
      let kept = try client.request(
        "POST", "/v2/pipeline", "{\"baton\":null,\"requests\":[\(write),\(close)]}")
      #expect(try kept.json["results"]?[0]?["type"]?.text == "ok", "\(kept.text)")
    }
  }
}
