// Turso's client libraries with copies that are written to offline, as they are, against both roles.
// Where a package is not installed, its test says that it was skipped.

import EdgeTesting
import Testing

extension RealClient {
  /// Those that can push what was written offline.
  static let offline = ["libsql", "aiolibsql"]
    .map { RealClient(module: $0, script: "offline_copy.py") }.filter(\.isInstalled)

  /// Works with a copy, in a process of its own.
  ///
  /// - Returns: what each line gave, as JSON.
  func work(_ lines: [String], _ path: String, port: Int) throws -> [String] {
    let result = try runCopy(lines, path, port: port)
    let answers = result.output.split(separator: "\n").map(String.init)
    let dies = lines.last == "die"
    guard answers.count == lines.count - (dies ? 1 : 0) else {
      throw TestFailure("\(module): \(result.output) \(result.error.suffix(2000))")
    }
    return answers
  }
}

extension NodeTests {
  @Suite(
    .enabled(
      if: !RealClient.offline.isEmpty,
      "no client library of Turso that works offline is installed for python3 or EDGE_SQL_PYTHON"))
  struct RealOfflineTests {
    private static let http = ["--http", "127.0.0.1:0"]
    private static let fill =
      "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 700) "
      + "INSERT INTO t SELECT NULL, randomblob(3500) FROM n"
    private static let count = "SELECT count(*) FROM t"

    private func run(_ node: NodeProcess, _ sql: String) throws {
      let answer = try node.connect().request(sql)
      if let error = answer.error { throw TestFailure("\(sql): \(error)") }
    }

    /// What every node has, and a copy that begins now.
    private func require(_ rows: Int, _ cluster: Cluster, _ client: RealClient) throws {
      try cluster.settle()
      for node in cluster.nodes {
        for (sql, value) in [(Self.count, "\(rows)"), ("PRAGMA integrity_check", "ok")] {
          let answer = try node.pipeline([#"{"type":"execute","stmt":{"sql":"\#(sql)"}}"#])
          let found = answer["results"]?[0]?["response"]?["result"]?["rows"]?[0]?[0]?["value"]
          #expect(found?.text == value, "\(node.role) \(sql)")
        }
        let path = cluster.directory.file("new-\(node.role.rawValue)-\(rows).db")
        let other = try client.work(["sync", Self.count], path, port: node.httpPort)
        #expect(other == ["[]", "[[\(rows)]]"], "\(node.role)")
      }
    }

    @Test(arguments: RealClient.offline)
    func whatIsWrittenOfflineArrivesOnce(_ client: RealClient) throws {
      let cluster = try Cluster(primaryArguments: Self.http, replicaArguments: Self.http)
      try run(cluster.primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      var rows = 0
      for node in cluster.nodes {
        try cluster.settle()
        let path = cluster.directory.file("\(node.role.rawValue)-copy.db")
        let insert = "INSERT INTO t(data) VALUES ('offline')"
        func work(_ lines: [String]) throws -> [String] {
          try client.work(lines, path, port: node.httpPort)
        }
        // At once, again, and after a pull.
        #expect(
          try work([insert, "sync", insert, insert, "sync", "sync", insert, "sync", Self.count])
            .last
            == "[[\(rows + 4)]]")
        rows += 4
        try require(rows, cluster, client)
        // More frames than one request takes; the process begins anew.
        #expect(try work([Self.fill, "sync", Self.count]).last == "[[\(rows + 700)]]")
        rows += 700
        try require(rows, cluster, client)
        // The process is killed before it has pushed; then the node is started again.
        _ = try work([insert, "die"])
        node.kill()
        try node.start()
        #expect(try work(["sync", Self.count]) == ["[]", "[[\(rows + 1)]]"])
        rows += 1
        // The copy does not know that it has pushed, writes more, and the node is started again.
        _ = try work(["info", insert, "sync", "forget", "die"])
        #expect(try work(["info", insert, "sync", "forget"]).allSatisfy { $0 == "[]" })
        node.kill()
        try node.start()
        #expect(try work(["sync", insert, "sync", "sync", Self.count]).last == "[[\(rows + 3)]]")
        rows += 3
        try require(rows, cluster, client)
        // What others write comes with the next pull.
        try run(cluster.primary, "INSERT INTO t(data) VALUES ('here')")
        rows += 1
        try cluster.settle()
        #expect(
          try work(["sync", insert, "sync", Self.count]).last == "[[\(rows + 1)]]")
        rows += 1
        try require(rows, cluster, client)
        // Both wrote.
        try run(cluster.primary, "INSERT INTO t(data) VALUES ('here')")
        rows += 1
        try cluster.settle()
        let answers = try work([insert, "sync"])
        #expect(answers.last?.contains("conflict") == true, "\(answers)")
        try require(rows, cluster, client)
      }
    }
  }
}
