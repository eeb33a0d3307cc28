// Hrana on a WebSocket: the handshake, requests that do not wait for each other, and how it ends.

import EdgeTesting
import Serving
import TestTraits
import Testing

private func request(_ number: Int, _ json: String) -> String {
  "{\"type\":\"request\",\"request_id\":\(number),\"request\":{\(json)}}"
}

private let hello = #"{"type":"hello","jwt":null}"#

@Suite(.services) struct HranaSocketTests {
  private static let roles = [NodeRole.primary, .replica]

  @Test(arguments: roles) func requestsNeedNotWait(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let socket = try WebSocketClient(
        port: nodes.port, headers: ["Sec-WebSocket-Protocol: hrana9, hrana2, hrana1"])
      #expect(socket.handshake.status == 101)
      #expect(socket.handshake.headers["sec-websocket-protocol"] == "hrana2")
      #expect(socket.handshake.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
      let texts = [
        hello, request(1, #""type":"open_stream","stream_id":5"#),
        request(2, #""type":"store_sql","sql_id":1,"sql":"CREATE TABLE t(a)""#),
        request(3, #""type":"execute","stream_id":5,"stmt":{"sql_id":1}"#),
        request(4, #""type":"execute","stream_id":5,"stmt":{"sql":"INSERT INTO t VALUES (7)"}"#),
        request(5, #""type":"execute","stream_id":5,"stmt":{"sql":"SELECT a FROM t"}"#),
        request(6, #""type":"execute","stream_id":5,"stmt":{"sql":"SELECT nope"}"#),
        request(7, #""type":"close_stream","stream_id":5"#),
      ]
      for text in texts { try socket.send(text) }
      #expect(try socket.message()["type"]?.text == "hello_ok")
      var answers: [Int64: JSONValue] = [:]
      for _ in 1...7 {
        let answer = try socket.message()
        answers[try #require(answer["request_id"]?.integer)] = answer
      }
      #expect(answers[5]?.value == "7")
      #expect(answers[6]?["type"]?.text == "response_error")
      #expect(answers[6]?.code == "SQL_INPUT_ERROR")
      #expect(answers[7]?["response"]?["type"]?.text == "close_stream")
      #expect(nodes.status.connections == 1)
    }
    // Without a subprotocol it is the first, and the answer names none.
    try await HTTPNodes.with(role) { nodes in
      let socket = try WebSocketClient(port: nodes.port)
      #expect(socket.handshake.headers["sec-websocket-protocol"] == nil)
      try socket.send(hello)
      #expect(try socket.message()["type"]?.text == "hello_ok")
    }
  }

  @Test(arguments: roles) func cursorsAreFetched(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let socket = try WebSocketClient(
        port: nodes.port, headers: ["Sec-WebSocket-Protocol: hrana3"])
      let sql =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<5) SELECT n FROM c"
      let batch = "{\"steps\":[{\"stmt\":{\"sql\":\"\(sql)\"}}]}"
      let texts = [
        hello, request(1, #""type":"open_stream","stream_id":1"#),
        request(2, "\"type\":\"open_cursor\",\"stream_id\":1,\"cursor_id\":2,\"batch\":\(batch)"),
        request(3, #""type":"fetch_cursor","cursor_id":2,"max_count":4"#),
      ]
      for text in texts { try socket.send(text) }
      for _ in 0..<3 { _ = try socket.message() }
      let first = try socket.message()["response"]
      #expect(first?["entries"]?.elements.count == 4 && first?["done"] == .bool(false))
      try socket.send(request(4, #""type":"fetch_cursor","cursor_id":2,"max_count":100"#))
      let second = try socket.message()["response"]
      #expect(second?["entries"]?.elements.count == 4 && second?["done"] == .bool(true))
      try socket.send(request(5, #""type":"close_cursor","cursor_id":2"#))
      #expect(try socket.message()["response"]?["type"]?.text == "close_cursor")
    }
  }

  @Test func messagesComeInPiecesAndPingsBetween() async throws {
    try await HTTPNodes.with { nodes in
      let socket = try WebSocketClient(port: nodes.port)
      let bytes = Array(hello.utf8)
      try socket.send(.text, Array(bytes[..<5]), isLast: false)
      try socket.send(.ping, [1, 2])
      let pong = try socket.receive()
      #expect(pong.kind == .pong && pong.bytes == [1, 2])
      try socket.send(.continuation, Array(bytes[5..<9]), isLast: false)
      try socket.send(.continuation, Array(bytes[9...]))
      #expect(try socket.message()["type"]?.text == "hello_ok")
      try socket.send(.close, [3, 232])
      #expect(try socket.receive().code == 1000)
      #expect(try socket.connection.readRest().isEmpty)
      try eventually("the connection is not counted any more") { nodes.status.connections == 0 }
    }
  }

  @Test func whatBreaksTheProtocolCloses() async throws {
    typealias Act = (WebSocketClient) throws -> Void
    let withoutStream: Act = { socket in
      try socket.send(hello)
      _ = try socket.message()
      try socket.send(request(1, #""type":"execute","stream_id":3,"stmt":{"sql":"SELECT 1"}"#))
    }
    let tooLong: Act = { socket in
      // Without a hello the node would end it after 10 s, and masking so much can take as long.
      try socket.send(hello)
      _ = try socket.message()
      let piece = [UInt8](repeating: 32, count: 9 << 20)
      try socket.send(.text, piece, isLast: false)
      try socket.send(.continuation, piece)
    }
    let table: [(String, Int, Act)] = [
      ("no JSON", 1007, { try $0.send("{") }),
      ("no UTF-8", 1007, { try $0.send(.text, [0x22, 0xff, 0x22]) }),
      ("another type", 1007, { try $0.send(#"{"type":"nope"}"#) }),
      ("a binary message", 1003, { try $0.send(.binary, [1]) }),
      ("no hello", 1008, { try $0.send(request(1, #""type":"open_stream","stream_id":1"#)) }),
      ("no stream", 1008, withoutStream),
      ("no mask", 1002, { try $0.send(.text, Array(hello.utf8), isMasked: false) }),
      ("an end without a beginning", 1002, { try $0.send(.continuation, [1]) }),
      ("too long", 1009, tooLong),
    ]
    try await HTTPNodes.with { nodes in
      for (what, code, act) in table {
        let socket = try WebSocketClient(port: nodes.port)
        try act(socket)
        let frame = try socket.receive()
        #expect(frame.kind == .close && frame.code == code, "\(what): \(frame)")
      }
      for headers in [
        ["Sec-WebSocket-Protocol: mqtt"], ["Sec-WebSocket-Protocol: hrana3-protobuf"],
      ] {
        #expect(try WebSocketClient(port: nodes.port, headers: headers).handshake.status == 400)
      }
    }
  }

  @Test func aStreamThatIsGoneLeavesNothingOpen() async throws {
    try await HTTPNodes.with { nodes in
      var socket: WebSocketClient? = try WebSocketClient(port: nodes.port)
      for text in [
        hello, request(1, #""type":"open_stream","stream_id":1"#),
        request(2, #""type":"execute","stream_id":1,"stmt":{"sql":"CREATE TABLE t(a)"}"#),
        request(3, #""type":"execute","stream_id":1,"stmt":{"sql":"BEGIN IMMEDIATE"}"#),
      ] { try socket?.send(text) }
      for _ in 0..<4 { _ = try socket?.message() }
      socket = nil
      #expect(try nodes.results([execute("INSERT INTO t VALUES (1)")])[0].code == nil)
    }
  }
}
