// The routes of embedded replicas, on both roles, as the libraries use them and as nobody should.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing

@testable import Primary
@testable import Replica

@Suite(.services) struct SyncTests {
  private static let roles = [NodeRole.primary, .replica]
  private static let rows =
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < "

  private func run(_ nodes: HTTPNodes, _ statements: [String]) throws {
    for result in try nodes.results(statements.map { execute($0) }) where result.code != nil {
      throw TestFailure("\(result)")
    }
  }

  /// Not page by page: that would open the file beside the node, in one process with it.
  private func requireEqual(_ copy: EmbeddedCopy, _ nodes: HTTPNodes) throws {
    let path = try nodes.directory.write("copy.db", copy.bytes)
    let found = try Connection(path: path, mode: .readWrite)
    let expected = try Connection(path: nodes.directory.file("primary.db"), mode: .readOnly)
    for sql in [
      "SELECT * FROM t ORDER BY id", "SELECT name, rootpage FROM sqlite_schema ORDER BY name",
      "PRAGMA page_count", "PRAGMA freelist_count", "PRAGMA integrity_check",
    ] {
      #expect(try found.query(sql) == expected.query(sql), "\(sql)")
    }
  }

  @Test(arguments: roles) func aCopyFollowsWhateverChanges(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let copy = EmbeddedCopy()
      try run(nodes, ["CREATE TABLE t(id INTEGER PRIMARY KEY, data)"])
      try copy.begin(nodes.port)
      try copy.sync(nodes.port)
      try requireEqual(copy, nodes)
      let generation = copy.generation
      for statements in [
        ["INSERT INTO t VALUES (1, 'one')"],
        ["UPDATE t SET data = 'two'", "UPDATE t SET data = 'three'", "CREATE INDEX i ON t(data)"],
        [Self.rows + "900) INSERT INTO t SELECT i + 10, randomblob(3000) FROM n"],
        ["DELETE FROM t WHERE id % 3 > 0", "VACUUM"],
        ["DROP INDEX i", "DELETE FROM t"], ["VACUUM"],
        [Self.rows + "200) INSERT INTO t SELECT i, randomblob(900) FROM n"],
      ] {
        try run(nodes, statements)
        try copy.sync(nodes.port)
        try requireEqual(copy, nodes)
      }
      #expect(copy.generation == generation)
      // Nothing new: no frame comes, and nothing is written down.
      let frame = copy.frame
      try copy.sync(nodes.port)
      #expect(copy.frame == frame)
      // One that begins later, and one whose pages change between its pulls.
      let other = EmbeddedCopy()
      try other.begin(nodes.port)
      try run(nodes, [Self.rows + "700) INSERT INTO t SELECT i + 999, randomblob(3000) FROM n"])
      var left = 5
      try other.sync(nodes.port) {
        guard left > 0 else { return }
        left -= 1
        try run(nodes, ["UPDATE t SET data = randomblob(700) WHERE id < 400"])
      }
      try requireEqual(other, nodes)
      try copy.sync(nodes.port)
      try requireEqual(copy, nodes)
    }
  }

  @Test func longListsGoOnInTheNextGeneration() async throws {
    try await HTTPNodes.with { nodes in
      try run(nodes, ["CREATE TABLE t(id INTEGER PRIMARY KEY, data)"])
      let copy = EmbeddedCopy()
      try copy.begin(nodes.port)
      let first = copy.generation
      for _ in 0..<3 {
        try run(nodes, [Self.rows + "1500) INSERT INTO t SELECT NULL, randomblob(4000) FROM n"])
        try copy.sync(nodes.port)
      }
      #expect(copy.generation == first + 1)
      try run(nodes, ["DELETE FROM t WHERE id > 5"])
      try copy.sync(nodes.port)
      try requireEqual(copy, nodes)
      let late = EmbeddedCopy()
      try late.begin(nodes.port)
      try late.sync(nodes.port)
      #expect(late.generation > first && late.frame < 1500)
      try requireEqual(late, nodes)
    }
  }

  @Test(arguments: roles) func wrongNumbersAreTold(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(nodes, ["CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"])
      let copy = EmbeddedCopy()
      try copy.begin(nodes.port)
      try run(nodes, ["INSERT INTO t VALUES (2)"])
      try copy.sync(nodes.port)
      let (generation, frame) = (copy.generation, copy.frame)
      let client = try nodes.client()
      let table: [(String, String, Int)] = [
        ("GET", "/sync/\(generation)/\(frame + 1)/\(frame + 129)", 400),
        ("GET", "/sync/\(generation)/\(frame + 2)/\(frame + 130)", 410),
        ("GET", "/sync/\(generation)/4294967294/4294967295", 410),
        ("GET", "/sync/\(generation + 1)/1/129", 410), ("GET", "/sync/4294967295/1/129", 410),
        ("GET", "/sync/\(generation - 1)/1/129", 410), ("GET", "/sync/0/1/129", 422),
        ("GET", "/sync/\(generation)/0/129", 422), ("GET", "/sync/\(generation)/5/5", 422),
        ("GET", "/sync/\(generation)/9/2", 422), ("GET", "/sync/4294967296/1/129", 422),
        ("GET", "/sync/-1/1/129", 422), ("GET", "/sync/+1/1/129", 422),
        ("GET", "/sync/\(generation)/1/99999999999999999999", 422),
        ("GET", "/sync/\(generation)/1/4294967295", 200), ("GET", "/export/0", 422),
        ("GET", "/export/\(generation + 1)", 410), ("GET", "/export/x", 422),
        ("GET", "/export/\(generation)", 200), ("POST", "/info", 405),
        ("POST", "/sync/\(generation)/1/2", 422), ("POST", "/sync/\(generation)/1/2/b", 409),
        ("POST", "/sync/0/1/2", 422), ("POST", "/sync/\(generation)/2/2", 422),
        ("GET", "/pull-updates", 405), ("POST", "/pull-updates", 200),
      ]
      for (method, path, status) in table {
        let answer = try client.request(method, path)
        #expect(answer.status == status, "\(method) \(path): \(answer.text.prefix(200))")
      }
      for body in ["\u{7}", "\u{12}\u{7f}", "\u{8}", "\u{0}\u{0}", "\u{1b}\u{1c}", "\u{2a}\u{1}a"] {
        #expect(try client.request("POST", "/pull-updates", body).status == 400)
      }
      // A selector of a query; the log of another engine; a state of the past.
      for body in ["\u{3a}\u{1}a", "\u{40}\u{1}", "\u{12}\u{1}1"] {
        #expect(try client.request("POST", "/pull-updates", body).status == 501)
      }
      // The whole copy that was had since counts as a frame.
      try copy.sync(nodes.port)
      #expect(copy.generation == generation && copy.frame == frame + 1)
    }
  }

  @Test(arguments: roles) func aCopyNeedsTheRightToRead(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role, verifier: Words.usual) { nodes in
      let client = try nodes.client()
      for path in ["/info", "/export/1", "/sync/1/1/129", "/pull-updates", "/sync/1/1/2"] {
        let method = path == "/pull-updates" || path.hasSuffix("/2") ? "POST" : "GET"
        for (word, status) in [("", 401), ("nobody", 401), ("stranger", 404)] {
          let headers = word.isEmpty ? [] : ["Authorization: Bearer \(word)"]
          let answer = try client.request(method, path, headers: headers)
          #expect(answer.status == status, "\(word) \(path)")
        }
      }
      let push = try client.request(
        "POST", "/sync/1/1/2", headers: ["Authorization: Bearer reader"])
      #expect(push.status == 403)
      for word in ["reader", "writer"] {
        let copy = EmbeddedCopy()
        copy.headers = ["Authorization: Bearer \(word)"]
        try copy.begin(nodes.port)
        try copy.sync(nodes.port)
        #expect(copy.bytes.starts(with: Array("SQLite format 3".utf8)))
      }
    }
  }

  @Test(arguments: roles) func manyCopiesAtOnceAreBounded(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(
        nodes,
        [
          "CREATE TABLE t(a)", Self.rows + "4000) INSERT INTO t SELECT randomblob(4000) FROM n",
        ])
      let info = try nodes.client().request("GET", "/info").json
      let number = try #require(info["current_generation"]?.integer)
      // Clients that read nothing hold their snapshots until they are cut off.
      var readers: [HTTPClient] = []
      for _ in 0..<8 {
        let reader = try HTTPClient(port: nodes.port, receiveBytes: 4096)
        try reader.send(HTTPClient.text("GET", "/export/\(number)"))
        _ = try reader.read(15)
        readers.append(reader)
      }
      let refused = try nodes.client().request("GET", "/export/\(number)")
      #expect(refused.status == 503, "\(refused.status)")
      #expect(try nodes.client().request("GET", "/sync/\(number)/1/129").status != 503)
      readers = []
      try eventually("no copy can be had") {
        try nodes.client().request("GET", "/export/\(number)").status == 200
      }
    }
  }
}
