// WebSockets whose clients ask for nothing: they stay, and do not keep their databases open.

import EdgeTesting
import Replica
import Serving
import Store
import TestTraits
import Testing

/// A client on a WebSocket with one stream.
private final class SocketClient {
  private let socket: WebSocketClient
  private var number: Int64 = 1

  init(port: Int, database: String) throws {
    socket = try WebSocketClient(
      port: port, headers: ["Sec-WebSocket-Protocol: hrana3", "x-namespace: \(database)"])
    try socket.send(#"{"type":"hello","jwt":null}"#)
    guard try socket.message()["type"]?.text == "hello_ok" else { throw TestFailure("no hello") }
    _ = try ask(#""type":"open_stream","stream_id":1"#)
  }

  func run(_ sql: String) throws -> JSONValue {
    try ask("\"type\":\"execute\",\"stream_id\":1,\"stmt\":{\"sql\":\"\(sql)\"}")
  }

  private func ask(_ request: String) throws -> JSONValue {
    number += 1
    try socket.send("{\"type\":\"request\",\"request_id\":\(number),\"request\":{\(request)}}")
    let answer = try socket.message()
    guard answer["request_id"]?.integer == number else { throw TestFailure("\(answer)") }
    return answer
  }
}

@Suite(.services) struct RestingSocketTests {
  private func port(_ nodes: EdgeNodes, _ role: NodeRole) throws -> Int {
    let address = role == .primary ? nodes.primary.httpAddress : nodes.replica.httpAddress
    return try #require(address?.port)
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func idleSocketsKeepNothingOpen(_ role: NodeRole) async throws {
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      let names = (0..<8).map { "d\($0)" }
      for name in names { try nodes.create(name) }
      for name in names { try nodes.wait(for: 0, in: name) }
      let port = try port(nodes, role)
      let clients = try names.map { try SocketClient(port: port, database: $0) }
      for round in 1...3 {
        try eventually("all rest") {
          nodes.primary.databases.counts.open == 0 && nodes.replica.databases.counts.open == 0
        }
        for client in clients {
          #expect(try client.run("INSERT INTO t VALUES (\(round))").code == nil)
          // What the stream has written it sees, also when it rested in between.
          #expect(try client.run("SELECT count(*) FROM t").value == "\(round)")
        }
      }
      // A transaction keeps its database.
      #expect(try clients[0].run("BEGIN").code == nil)
      #expect(try clients[0].run("SELECT count(*) FROM t").value == "3")
      let databases = role == .primary ? nodes.primary.databases : nodes.replica.databases
      try eventually("the others rest") { databases.counts.open == 1 }
      #expect(try clients[0].run("SELECT count(*) FROM t").value == "3")
      #expect(try clients[0].run("COMMIT").code == nil)
      try eventually("all rest") { databases.counts.open == 0 }
    }
  }

  /// Not long unused, but told that its database is to go.
  @Test(arguments: [NodeRole.primary, .replica])
  func anIdleSocketLetsItsDatabaseBeDropped(_ role: NodeRole) async throws {
    try await EdgeNodes.with { (nodes) async throws in
      try nodes.create("a", rows: 1)
      try nodes.wait(for: 1, in: "a")
      let client = try SocketClient(port: try port(nodes, role), database: "a")
      #expect(try client.run("SELECT count(*) FROM t").value == "1")
      let owner = try nodes.reader()
      try owner.command(".db drop a")
      #expect(try client.run("SELECT 1").code == "DATABASE_NOT_FOUND")
      try owner.command(".db create a")
      // Of the same name, and another one: what was seen is gone, which is told once.
      #expect(try client.run("SELECT 1").code == "TOKEN_EPOCH")
      #expect(try client.run("SELECT count(*) FROM sqlite_schema").value == "0")
    }
  }
}
