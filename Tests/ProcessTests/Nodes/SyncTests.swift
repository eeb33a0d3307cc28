// Embedded replicas of nodes that end and begin again: the copy as the library keeps it, and the
// libraries themselves where they are installed.

import EdgeTesting
import Serving
import Testing

extension NodeProcess {
  /// Not in the line protocol.
  func vacuum() throws {
    let answer = try pipeline([#"{"type":"execute","stmt":{"sql":"VACUUM"}}"#])
    guard case .string("ok")? = answer["results"]?[0]?["type"] else {
      throw TestFailure("VACUUM: \(answer)")
    }
  }
}

extension NodeTests {
  @Suite struct SyncTests {
    private static let http = ["--http", "127.0.0.1:0"]

    private func run(_ node: NodeProcess, _ sql: String) throws {
      let answer = try node.connect().request(sql)
      if let error = answer.error { throw TestFailure("\(sql): \(error)") }
    }

    private func requireEqual(_ copy: EmbeddedCopy, _ node: NodeProcess) throws {
      try copy.requireEqual(node.database, in: node.directory)
    }

    private func restart(_ node: NodeProcess, killed: Bool) throws {
      if killed { node.kill() } else { try node.terminate() }
      try node.start()
    }

    @Test(arguments: [false, true]) func aRestartSendsWhatChanged(killed: Bool) throws {
      let cluster = try Cluster(primaryArguments: Self.http, replicaArguments: Self.http)
      try run(cluster.primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      try run(
        cluster.primary,
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
          + "INSERT INTO t SELECT i, randomblob(3000) FROM n")
      for node in cluster.nodes {
        try cluster.settle()
        let copy = EmbeddedCopy()
        let other = EmbeddedCopy()
        try copy.begin(node.httpPort)
        try other.begin(node.httpPort)
        for round in 0..<4 {
          try run(cluster.primary, "UPDATE t SET data = randomblob(2500) WHERE id % 700 = \(round)")
          if round == 2 { try run(cluster.primary, "DELETE FROM t WHERE id > 1900") }
          if round == 2 { try cluster.primary.vacuum() }
          try restart(node, killed: killed)
          try cluster.settle()
          let generation = copy.generation
          try copy.sync(node.httpPort)
          try requireEqual(copy, node)
          #expect(copy.generation > generation)
          // What changed, and not everything.
          if round < 2 { #expect(copy.frame < 200, "round \(round)") }
        }
        // It was away for all of that.
        try other.sync(node.httpPort)
        try requireEqual(other, node)
        #expect(copy.generation == other.generation)
      }
    }

    @Test func anOlderBackupIsNotMixedWithACopy() throws {
      let cluster = try Cluster(replicas: 0, primaryArguments: Self.http)
      let node = cluster.primary
      try run(node, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      for id in 1...40 { try run(node, "INSERT INTO t VALUES (\(id), randomblob(3000))") }
      try node.terminate()
      let backup = try Files.read(node.database)
      try node.start()
      let copy = EmbeddedCopy()
      try copy.begin(node.httpPort)
      for id in 1...40 { try run(node, "UPDATE t SET data = randomblob(2000) WHERE id = \(id)") }
      try copy.sync(node.httpPort)
      try requireEqual(copy, node)
      node.kill()
      for end in ["-wal", "-shm"] { Files.removeAll(node.database + end) }
      Files.removeAll(node.database)
      try node.directory.write("primary.db", backup)
      try node.start()
      try run(node, "UPDATE t SET data = 7 WHERE id = 1")
      try copy.sync(node.httpPort)
      try requireEqual(copy, node)
    }

    @Test func anEarlierFolderIsToldFromThePresent() throws {
      let cluster = try Cluster(replicas: 0, primaryArguments: Self.http)
      let node = cluster.primary
      try run(node, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      for id in 1...20 { try run(node, "INSERT INTO t VALUES (\(id), randomblob(3000))") }
      let copy = EmbeddedCopy()
      try copy.begin(node.httpPort)
      try copy.sync(node.httpPort)
      let ends = ["", "-wal", "-pagemap", "-identity", "-sync"]
      node.suspend()
      let folder = try ends.map { try Files.read(node.database + $0) }
      node.resume()
      try run(node, "UPDATE t SET data = randomblob(2000) WHERE id = 3")
      try copy.sync(node.httpPort)
      node.kill()
      for end in ["-shm"] + ends { Files.removeAll(node.database + end) }
      for (end, bytes) in zip(ends, folder) { try node.directory.write("primary.db" + end, bytes) }
      try node.start()
      // Page 3 as the lost transaction left it would stay in the copy.
      try run(node, "UPDATE t SET data = randomblob(2000) WHERE id = 20")
      let refused = #expect(throws: EmbeddedCopy.Refused.self) { try copy.sync(node.httpPort) }
      #expect(refused?.status == 410)
      try copy.begin(node.httpPort)
      try copy.sync(node.httpPort)
      try requireEqual(copy, node)
    }

    @Test func withoutItsRecordsANodeKnowsNoCopy() throws {
      let cluster = try Cluster(replicas: 0, primaryArguments: Self.http)
      let node = cluster.primary
      try run(node, "CREATE TABLE t(a)")
      let copy = EmbeddedCopy()
      try copy.begin(node.httpPort)
      try run(node, "INSERT INTO t VALUES (1)")
      try copy.sync(node.httpPort)
      node.kill()
      Files.removeAll(node.database + "-sync")
      try node.start()
      #expect(throws: EmbeddedCopy.Refused.self) { try copy.sync(node.httpPort) }
      try copy.begin(node.httpPort)
      try copy.sync(node.httpPort)
      try requireEqual(copy, node)
    }

    /// What a copy of a part was sent is not known any more: it is refused until it pulls.
    @Test(arguments: [false, true]) func aRestartForgetsWhatPartsWereSent(killed: Bool) throws {
      let cluster = try Cluster(primaryArguments: Self.http, replicaArguments: Self.http)
      try run(cluster.primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      for id in 1...20 { try run(cluster.primary, "INSERT INTO t VALUES (\(id), zeroblob(3000))") }
      for node in cluster.nodes {
        try cluster.settle()
        func ask(_ ask: PullUpdatesAsk) throws -> PullUpdatesReply {
          try ask(HTTPClient(port: node.httpPort))
        }
        var begin = PullUpdatesAsk()
        // The pages 0 to 3, as a run; and all of them.
        begin.pages = [0x3b, 0x30, 0, 0, 1, 0, 0, 3, 0, 1, 0, 0, 0, 3, 0]
        let copy = try ask(begin)
        #expect(copy.pages.keys.sorted() == [0, 1, 2, 3])
        var more = begin
        more.serverRevision = copy.revision
        more.pages = [0x3b, 0x30, 0, 0, 1, 0, 0, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff]
        #expect(try ask(more).pages.count == copy.pageCount)
        try run(cluster.primary, "UPDATE t SET data = randomblob(3000) WHERE id = 7")
        try cluster.settle()
        let pulled = try ask(PullUpdatesAsk(since: copy.revision))
        let left = try ask(more)
        #expect(left.pages.count == copy.pageCount - pulled.pages.count)
        try restart(node, killed: killed)
        try cluster.settle()
        let refused = #expect(throws: EmbeddedCopy.Refused.self) { _ = try ask(more) }
        #expect(refused?.status == 409)
        // All that changed since it began comes once more, whatever it waits for.
        let resent = try ask(PullUpdatesAsk(since: pulled.revision, waitMilliseconds: 60_000))
        #expect(Set(resent.pages.keys).isSuperset(of: pulled.pages.keys))
        let rest = try ask(more).pages
        // Nothing is missing, and nothing comes in another state.
        #expect(
          Set(rest.keys).union(resent.pages.keys) == Set(0..<copy.pageCount), "\(node.role)")
        #expect(Set(rest.keys).isDisjoint(with: resent.pages.keys), "\(node.role)")
        #expect(rest.allSatisfy { left.pages[$0] == $1 }, "\(node.role)")
        let nothing = try ask(PullUpdatesAsk(since: resent.revision, waitMilliseconds: 20))
        #expect(nothing.pages.isEmpty)
      }
    }

    @Test func otherPageSizesAreRefused() throws {
      let cluster = try Cluster(replicas: 0, primaryArguments: Self.http) { path in
        let made = try Program(path: "/usr/bin/env").run([
          "python3", "-c",
          "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); "
            + "d.executescript('PRAGMA page_size=1024; CREATE TABLE t(a); PRAGMA journal_mode=WAL')",
          path,
        ])
        guard made.status == .exited(0) else { throw TestFailure(made.error) }
      }
      for (method, path) in [("GET", "/info"), ("GET", "/sync/1/1/2"), ("POST", "/pull-updates")] {
        let answer = try cluster.primary.http(method, path)
        #expect(answer.status == 501 && answer.body.contains("1024"), "\(path): \(answer.body)")
      }
    }
  }
}
