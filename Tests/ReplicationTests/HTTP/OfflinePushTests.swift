// What offline copies push, on both roles: it becomes one commit of the primary, or nothing at all.

import EdgeTesting
import Serving
import Store
import TestTraits
import Testing
import WALShip

@testable import Primary
@testable import Replica

@Suite(.services) struct OfflinePushTests {
  private static let roles = [NodeRole.primary, .replica]
  private static let rows =
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < "

  private func run(_ nodes: HTTPNodes, _ statements: String...) throws {
    for result in try nodes.results(statements.map { execute($0) }) where result.code != nil {
      throw TestFailure("\(result)")
    }
  }

  private func value(_ nodes: HTTPNodes, _ sql: String) throws -> String? {
    try nodes.results([execute(sql)]).first?.value
  }

  /// A copy that has never pulled, and one that has.
  private func copy(
    _ nodes: HTTPNodes, _ name: String, pulls: Bool = false
  ) throws -> OfflineCopy {
    let copy = EmbeddedCopy()
    try copy.begin(nodes.port)
    if pulls { try copy.sync(nodes.port) }
    return try OfflineCopy(copy, in: nodes.directory, name)
  }

  private func position(_ nodes: HTTPNodes) -> Position { nodes.primary.tracker.position }

  /// The node that is tested has all of the primary, and another copy gets it.
  private func requireSpread(_ nodes: HTTPNodes, like copy: OfflineCopy) throws {
    if let replica = nodes.replica {
      try eventually("the replica follows") { replica.position == position(nodes) }
    }
    let other = EmbeddedCopy()
    try other.begin(nodes.port)
    try other.sync(nodes.port)
    let path = try nodes.directory.write("other.db", other.bytes)
    let found = try Connection(path: path, mode: .readWrite)
    let primary = try Connection(path: nodes.directory.file("primary.db"), mode: .readOnly)
    for sql in [
      "SELECT * FROM t ORDER BY id", "SELECT name, rootpage, sql FROM sqlite_schema ORDER BY name",
      "PRAGMA page_count", "PRAGMA freelist_count", "PRAGMA user_version",
    ] {
      let expected = try copy.connection.query(sql)
      #expect(try found.query(sql) == expected, "\(sql)")
      #expect(try primary.query(sql) == expected, "\(sql)")
    }
    #expect(try primary.query("PRAGMA integrity_check") == [[.text("ok")]])
    try found.execute("PRAGMA user_version=0")
  }

  @Test(arguments: roles, [false, true])
  func aPushIsTheNextCommit(_ role: NodeRole, pulls: Bool) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(
        nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)", "CREATE INDEX i ON t(data)",
        Self.rows + "300) INSERT INTO t SELECT i, randomblob(200) FROM n")
      let copy = try copy(nodes, "copy.db", pulls: pulls)
      for statements in [
        ["INSERT INTO t VALUES (1000, 'one')"],
        [
          "UPDATE t SET data = 'two' WHERE id = 7", "DELETE FROM t WHERE id = 8",
          "CREATE TABLE u(a)",
        ],
        ["PRAGMA user_version=9"],
        [Self.rows + "80) INSERT INTO t SELECT NULL, zeroblob(9000) FROM n"],
        ["DELETE FROM t WHERE id > 250"], ["VACUUM"], ["DROP TABLE u", "VACUUM"],
      ] {
        let before = position(nodes)
        for sql in statements { try copy.write(sql) }
        #expect(try copy.push(nodes.port) == .pushed)
        // As many commits as requests that ended one, and all of it is durable.
        #expect(position(nodes).txid > before.txid)
        try requireSpread(nodes, like: copy)
      }
      // The writer goes on behind it, and so does everybody else.
      try run(nodes, "INSERT INTO t VALUES (5000, 'behind')")
      #expect(try value(nodes, "SELECT data FROM t WHERE id = 5000") == "behind")
      #expect(try value(nodes, "PRAGMA integrity_check") == "ok")
    }
  }

  @Test(arguments: roles) func aPushOntoAnotherStateIsAConflict(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      let late = try copy(nodes, "late.db")
      try late.write("INSERT INTO t VALUES (1, 'late')")
      try run(nodes, "INSERT INTO t VALUES (2, 'ours')")
      #expect(try late.push(nodes.port) == .conflict)
      let other = try copy(nodes, "other.db")
      try other.write("INSERT INTO t VALUES (3, 'other')")
      // Not by this node, and not through it.
      let foreign = try Connection(path: nodes.directory.file("primary.db"), mode: .readWrite)
      foreign.setBusyTimeout(milliseconds: 5000)
      try foreign.execute("INSERT INTO t VALUES (4, 'foreign')")
      #expect(try other.push(nodes.port) == .conflict)
      // Of two copies of one state one wins; the same pages from both are still two pushes.
      let (one, two) = (try copy(nodes, "one.db"), try copy(nodes, "two.db"))
      for copy in [one, two] { try copy.write("UPDATE t SET data = data || '!'") }
      #expect(try one.push(nodes.port) == .pushed)
      #expect(try two.push(nodes.port) == .conflict)
      #expect(try late.push(nodes.port) == .conflict)
      #expect(try value(nodes, "SELECT group_concat(data) FROM t") == "ours!,foreign!")
    }
  }

  @Test(arguments: roles) func whatIsAskedTwiceIsDoneOnce(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)", "INSERT INTO t VALUES (1, 0)")
      let copy = try copy(nodes, "copy.db", pulls: true)
      let first = copy.durable
      try copy.write("UPDATE t SET data = data + 1")
      #expect(try copy.push(nodes.port) == .pushed)
      let position = position(nodes)
      // The answer was lost: the copy knows nothing of it.
      copy.durable = first
      #expect(try copy.push(nodes.port) == .pushed)
      #expect(self.position(nodes) == position)
      // It has written more since: the node tells how much it has.
      copy.durable = first
      try copy.write("UPDATE t SET data = data + 1")
      #expect(try copy.push(nodes.port) == .pushed)
      #expect(self.position(nodes).txid == position.txid.next)
      #expect(try value(nodes, "SELECT data FROM t") == "2")
      // Even when somebody wrote in between.
      try run(nodes, "UPDATE t SET data = data + 10")
      copy.durable = first
      #expect(try copy.push(nodes.port) == .pushed)
      #expect(try value(nodes, "SELECT data FROM t") == "12")
      try copy.write("UPDATE t SET data = data + 1")
      #expect(try copy.push(nodes.port) == .conflict)
    }
  }

  @Test(arguments: roles) func manyFramesComeInParts(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try run(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      let copy = try copy(nodes, "copy.db")
      try copy.write(Self.rows + "700) INSERT INTO t SELECT i, randomblob(3000) FROM n")
      let last = try copy.last
      #expect(last > 500)
      let before = position(nodes)
      // A part that is not followed by another is nothing.
      let part = try copy.post(1...128, nodes.port).json
      let baton = try #require(part["baton"]?.text)
      #expect(part["status"]?.text == "ok" && part["max_frame_no"]?.integer == 128)
      #expect(try copy.post(200...327, baton: baton, nodes.port).status == 409)
      #expect(try copy.post(129...256, baton: baton, nodes.port).status == 409)
      #expect(try copy.post(129...256, baton: "x", nodes.port).status == 409)
      #expect(position(nodes) == before)
      // The library of this process goes on where it was, and is sent back.
      copy.durable = 128
      #expect(try copy.push(nodes.port) == .pushed)
      #expect(position(nodes).txid == before.txid.next)
      try requireSpread(nodes, like: copy)
      #expect(
        try copy.post(last + 9...last + 9, bytes: try copy.bytes(1...1), nodes.port).status == 410)
    }
  }

  @Test func partsAreBounded() async throws {
    try await HTTPNodes.with { nodes in
      try run(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      let copy = try copy(nodes, "copy.db")
      try copy.write(Self.rows + "4200) INSERT INTO t SELECT i, zeroblob(4000) FROM n")
      var statuses: [Int] = []
      for _ in 0..<9 { statuses.append(try copy.post(1...128, nodes.port).status) }
      #expect(statuses == [200, 200, 200, 200, 200, 200, 200, 200, 503])
    }
    try await HTTPNodes.with { nodes in
      try run(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      let copy = try copy(nodes, "copy.db")
      try copy.write(Self.rows + "4200) INSERT INTO t SELECT i, zeroblob(4000) FROM n")
      guard case .refused(413, _) = try copy.push(nodes.port) else {
        throw TestFailure("more pages than fit into one push")
      }
    }
  }

  @Test(arguments: roles) func pushingNeedsTheRightToWrite(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role, verifier: Words.usual) { nodes in
      let copy = EmbeddedCopy()
      copy.headers = ["Authorization: Bearer writer"]
      try copy.begin(nodes.port)
      let offline = try OfflineCopy(copy, in: nodes.directory, "copy.db")
      try offline.write("CREATE TABLE t(a)")
      for (word, status) in [("reader", 403), ("nobody", 401), ("stranger", 404)] {
        offline.headers = ["Authorization: Bearer \(word)"]
        guard case .refused(status, _) = try offline.push(nodes.port) else {
          throw TestFailure("\(word) may push")
        }
      }
      offline.headers = ["Authorization: Bearer writer"]
      #expect(try offline.push(nodes.port) == .pushed)
    }
  }
}
