// `/metrics` as Prometheus reads it: the histograms count what was asked, by every protocol.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct MetricsTests {
    /// One reading: the value of each line.
    private struct Reading {
      var values: [String: Double] = [:]
      var types: [String: String] = [:]

      init(_ node: NodeProcess) throws {
        let answer = try HTTPClient(port: node.httpPort).request("GET", "/metrics")
        #expect(answer.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
        for line in answer.text.split(separator: "\n") {
          let words = line.split(separator: " ")
          if line.hasPrefix("# TYPE ") {
            #expect(types[String(words[2])] == nil, "a name has one type: \(line)")
            types[String(words[2])] = String(words[3])
          } else if !line.hasPrefix("#") {
            let end = line.lastIndex(of: " ") ?? line.startIndex
            let value = try #require(Double(line[line.index(after: end)...]), "\(line)")
            #expect(values.updateValue(value, forKey: String(line[..<end])) == nil, "\(line)")
          }
        }
      }

      func count(_ name: String, _ labels: String = "") -> Double {
        values["\(name)_count\(labels.isEmpty ? "" : "{\(labels)}")"] ?? 0
      }

      /// The buckets of a histogram are in order, and the last one has everything.
      func requireHistogram(_ name: String, _ labels: String = "") throws {
        #expect(types[name] == "histogram")
        let list = labels.isEmpty ? "" : "\(labels),"
        let ends = ["0.0001", "0.001", "0.01", "0.1", "1", "10", "+Inf"]
        let counts = try ends.map {
          try #require(values["\(name)_bucket{\(list)le=\"\($0)\"}"], "\(name) \(labels) \($0)")
        }
        #expect(counts == counts.sorted(), "\(name): \(counts)")
        #expect(counts.last == count(name, labels))
        let sum = try #require(values["\(name)_sum\(labels.isEmpty ? "" : "{\(labels)}")"])
        #expect(sum >= 0 && (sum > 0) == (count(name, labels) > 0), "\(name) \(labels): \(sum)")
      }
    }

    private static let requests = "edge_sql_request_seconds"

    @Test func requestsOfEveryKindAreCounted() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", speaksHTTP: true)
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], speaksHTTP: true)
      for node in [primary, replica] {
        let line = try node.connect()
        try line.run("CREATE TABLE IF NOT EXISTS t(a)")
        let socket = try WebSocketClient(port: node.httpPort)
        try socket.send(#"{"type":"hello","jwt":null}"#)
        _ = try socket.message()
        let before = try Reading(node)
        // One of each kind of line, and of answer.
        let lines = [
          "SELECT 1", "INSERT INTO t VALUES (1)", #"{"sql":"SELECT ?","args":[1]}"#,
          #"{"batch":[{"sql":"SELECT 1"},{"sql":"SELECT 2"}]}"#, "SELEC", "SELECT * FROM nope",
          "BEGIN", "SELECT count(*) FROM t", "COMMIT", ".ping", ".token",
          "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 3000) SELECT n FROM c",
        ]
        for text in lines { _ = try line.request(text) }
        try line.send(".mode csv\nSELECT 1\nINSERT INTO t VALUES (2)\nSELEC\n.mode json\n")
        while try line.readLine()?.contains(#""ok":true"#) != true {}
        let client = try HTTPClient(port: node.httpPort)
        let requests: [(String, String, String)] = [
          ("POST", "/v1/execute", #"{"stmt":{"sql":"SELECT 1"}}"#), ("GET", "/health", ""),
          ("POST", "/v2/pipeline", #"{"requests":[{"type":"close"}]}"#), ("GET", "/nope", ""),
          ("POST", "/v3/cursor", #"{"batch":{"steps":[]}}"#), ("POST", "/", #"{"statements":[]}"#),
          ("GET", "/dump", ""), ("OPTIONS", "/v2", ""), ("POST", "/v1/batch", "{"),
        ]
        for (method, path, body) in requests { try client.request(method, path, body) }
        for (number, request) in [
          #""type":"open_stream","stream_id":1"#,
          #""type":"execute","stream_id":1,"stmt":{"sql":"SELECT 1"}"#,
          #""type":"execute","stream_id":1,"stmt":{"sql":"SELEC"}"#,
          #""type":"close_stream","stream_id":1"#,
        ].enumerated() {
          try socket.send(
            #"{"type":"request","request_id":\#(number),"request":{\#(request)}}"#)
          _ = try socket.message()
        }
        var after = try Reading(node)
        var looks = 1
        // The last is counted once its answer is on its way.
        let sockets = "protocol=\"websocket\""
        try eventually("the last is counted") {
          if after.count(Self.requests, sockets) >= before.count(Self.requests, sockets) + 4 {
            return true
          }
          after = try Reading(node)
          looks += 1
          return false
        }
        for (kind, count) in [
          ("line", lines.count + 5), ("http", requests.count + looks), ("websocket", 4),
        ] {
          let labels = "protocol=\"\(kind)\""
          try after.requireHistogram(Self.requests, labels)
          #expect(
            after.count(Self.requests, labels) - before.count(Self.requests, labels)
              == Double(count), "\(node.role) \(kind)")
        }
      }
    }

    @Test func waitsAndForwardedRequestsAreCounted() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(
        .primary, in: directory, database: "p.db", speaksHTTP: true)
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], speaksHTTP: true)
      let line = try replica.connect()
      try line.run("CREATE TABLE t(a)")
      let parts = (try line.run("SELECT 1").token ?? "").split(separator: ".")
      try #require(parts.count >= 4)
      let future = "\(parts[0]).\(parts[1]).\(parts[2]).999999"
      let before = try Reading(replica)
      for _ in 0..<3 {
        let late = try line.query(
          "SELECT 1", [], [("token", .string(future)), ("wait_ms", 30), ("on_lag", "error")])
        #expect(late.error == "TOKEN_TIMEOUT")
      }
      for _ in 0..<5 { try line.run("INSERT INTO t VALUES (1)") }
      try line.run("SELECT 1", [], [("read", "primary")])
      let after = try Reading(replica)
      for (name, count) in [
        ("edge_sql_token_wait_seconds", 3.0), ("edge_sql_forwarded_seconds", 6),
      ] {
        try after.requireHistogram(name)
        #expect(after.count(name) - before.count(name) == count, "\(name)")
      }
      for (name, count) in [
        ("edge_sql_token_timeouts_total", 3.0), ("edge_sql_forwarded_writes_total", 5),
        ("edge_sql_forwarded_reads_total", 1),
      ] {
        #expect((after.values[name] ?? 0) - (before.values[name] ?? 0) == count, "\(name)")
        #expect(after.types[name] == "counter")
      }
      // A primary has the figures of its follower.
      let upstream = try Reading(primary)
      #expect(upstream.values.contains { $0.key.hasPrefix("edge_sql_replica_sent_bytes_total{") })
      #expect(upstream.values["edge_sql_replicas"] == 1)
    }
  }
}
