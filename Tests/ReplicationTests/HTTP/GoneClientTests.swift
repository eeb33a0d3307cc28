// Clients that leave while a statement of theirs works: it ends with them, whatever it was asked by.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

/// It never ends by itself.
private let endless =
  "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s) SELECT max(i) FROM s"

/// It needs a reader of the pool.
private let sum =
  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<100000) SELECT sum(n) FROM c"

@Suite(.services) struct GoneClientTests {
  /// As many clients as there are readers ask for something without an end, and go.
  private func leave(
    _ nodes: HTTPNodes, _ path: String, _ body: String, beside other: HTTPClient
  ) throws {
    let clients = try (0..<2).map { _ in
      let client = try nodes.client()
      try client.send(HTTPClient.text("POST", path, body))
      return client
    }
    #expect(clients.count == 2)
    #expect(try other.request("GET", "/health").status == 200)
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func row41_endlessStatementsEndWithTheirClients(_ role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.readersMax = 2
    limits.statementMilliseconds = 3_600_000
    limits.httpHalfClosedMilliseconds = 50
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let step = #"{"stmt":{"sql":"\#(endless)"}}"#
      let requests = [
        ("/v1/execute", step), ("/v1/batch", #"{"batch":{"steps":[\#(step)]}}"#),
        ("/v2/pipeline", #"{"requests":[\#(execute(endless))]}"#),
        ("/v3/cursor", #"{"batch":{"steps":[\#(step)]}}"#),
        ("/", #"{"statements":["\#(endless)"]}"#),
      ]
      for (path, body) in requests {
        // With all readers at work, nobody else gets one.
        let other = try nodes.client()
        try leave(nodes, path, body, beside: other)
        // Needs a reader of its own.
        let answer = try other.request("POST", "/v1/execute", #"{"stmt":{"sql":"\#(sum)"}}"#)
        #expect(answer.status == 200 && answer.text.contains("5000050000"), "\(path)")
      }
      var socket: WebSocketClient? = try WebSocketClient(
        port: nodes.port, headers: ["Sec-WebSocket-Protocol: hrana2"])
      try socket?.send(#"{"type":"hello","jwt":null}"#)
      for number in 0..<2 {
        for request in [
          #""type":"open_stream","stream_id":\#(number)"#,
          #""type":"execute","stream_id":\#(number),"stmt":{"sql":"\#(endless)"}"#,
        ] {
          try socket?.send(
            #"{"type":"request","request_id":\#(number),"request":{\#(request)}}"#)
        }
      }
      for _ in 0..<3 { _ = try socket?.message() }
      socket = nil
      let client = try LineConnection(port: nodes.linePort)
      #expect(try client.integer(sum) == 5_000_050_000)
    }
  }

  /// A transaction of a stream whose client is gone in the middle of a request is rolled back then,
  /// and not when the stream has been idle, or the transaction open, for long enough.
  @Test func row32_aTransactionEndsWithItsClient() async throws {
    var limits = ServingLimits()
    limits.streamIdleMilliseconds = 3_600_000
    limits.transactionMilliseconds = 3_600_000
    limits.statementMilliseconds = 300
    limits.httpHalfClosedMilliseconds = 50
    try await HTTPNodes.with(limits: limits) { nodes in
      let begun = try nodes.pipeline([
        execute("CREATE TABLE t(a)"), execute("BEGIN"), execute("INSERT INTO t VALUES (1)"),
      ])
      let baton = try #require(try begun.json["baton"]?.text)
      let body = #"{"baton":"\#(baton)","requests":[\#(execute(endless))]}"#
      try leave(nodes, "/v2/pipeline", body, beside: nodes.client())
      // It has the writer as soon as the transaction is over.
      let results = try nodes.results([
        execute("INSERT INTO t VALUES (2)"), execute("SELECT group_concat(a) FROM t"),
      ])
      #expect(results.last?.value == "2")
    }
  }
}
