// Makes `Tests/Fixtures/v1` and `Fuzz/Corpus` anew: `make record`. What is recorded is a primary, a
// replica and a client as users run them; nothing is written by hand.

import EdgeTesting
import Glibc
import NIOCore
import Serving
import Store
import Testing
import WALShip

extension NodeTests {
  @Suite struct RecordingTests {
    static let isWanted = getenv("EDGE_SQL_RECORD") != nil

    @Test(.enabled(if: isWanted, "make record")) func recordFixtures() throws {
      let directory = try TestDirectory()
      let session = try Session(in: directory)
      try session.firstCopyAndTransactions()
      try session.catchUp()
      try session.comparison()
      try session.files()
      try CorpusMaker(session: session).write()
    }
  }

  /// One recorded life of a primary and its replica.
  final class Session {
    let directory: TestDirectory
    let primary: NodeProcess
    let link: FaultProxy
    let replica: NodeProcess
    private(set) var streams: [(name: String, up: [UInt8], down: [UInt8])] = []
    private(set) var requests: [String] = []
    private var expected: [JSONValue.Member] = []
    private var tokens: [JSONValue] = []

    init(in directory: TestDirectory) throws {
      self.directory = directory
      do {
        let connection = try Connection(path: directory.file("primary.db"), mode: .create)
        try connection.execute(
          """
          PRAGMA page_size=512; PRAGMA journal_mode=WAL;
          CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL, data BLOB);
          WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
          INSERT INTO item SELECT i, 'item number ' || i, i * 1.25, randomblob(20) FROM n
          """)
      }
      primary = try NodeProcess(.primary, in: directory, database: "primary.db")
      link = try FaultProxy(to: primary.shipPort)
      link.record()
      replica = try NodeProcess(
        .replica, in: directory, database: "replica.db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"], ships: false)
    }

    /// Requests of every form, through the replica, so that they are forwarded as well.
    private static let lines = [
      "SELECT count(*), sum(price) FROM item",
      "[\"INSERT INTO item(name, price, data) VALUES (?, ?, ?)\", \"pen\", 2.5, {\"b64\":\"AAEC/w==\"}]",
      "{\"id\":1,\"sql\":\"SELECT id, name FROM item WHERE name = :n\",\"args\":{\"n\":\"pen\"}}",
      """
      {"id":"b","batch":[{"sql":"UPDATE item SET price = price + 1 WHERE id < ?","args":[4]},\
      {"sql":"SELECT price FROM item WHERE id = 2"}]}
      """,
      "{\"sql\":\"INSERT INTO item(name) VALUES ('once')\",\"key\":\"first-key\",\"timeout_ms\":2000}",
      "CREATE TABLE note(text TEXT); INSERT INTO note VALUES ('a; \"b\" é'); -- done",
      "SELEC 1", ".schema note", ".mode csv", "SELECT * FROM note", ".mode json",
      "BEGIN", "INSERT INTO note VALUES ('in a transaction')", "SELECT count(*) FROM note",
      "COMMIT",
      "{\"sql\":\"DELETE FROM item WHERE id BETWEEN 10 AND 15\"}", ".token", ".ping",
    ]

    func firstCopyAndTransactions() throws {
      let tap = try FaultProxy(to: replica.listenPort)
      tap.record()
      let client = try LineConnection(port: tap.port)
      for line in Self.lines {
        try client.send(line + "\n")
        requests.append(line)
      }
      client.finishSending()
      while let answer = try client.readLine() {
        let token = (try? JSONValue.parse(answer))?["token"]
        if case .string? = token, let token, tokens.last != token { tokens.append(token) }
      }
      streams.append(("line", tap.recorded(.up), tap.recorded(.down)))
      try finish("copy")
    }

    /// The primary was started anew, so its ring is empty: what the replica missed comes as pages.
    func catchUp() throws {
      try replica.terminate()
      let client = try primary.connect()
      for id in 20..<24 {
        try client.run("UPDATE item SET name = 'changed \(id)' WHERE id = \(id)")
      }
      try primary.terminate()
      try primary.start()
      link.record()
      try replica.start()
      try finish("catch-up")
    }

    /// The replica lost its page map, and a page is not what it was.
    func comparison() throws {
      try replica.terminate()
      try UpgradeFiles.spoil(replica.database)
      link.record()
      try replica.start()
      try finish("comparison")
    }

    /// Waits until both stand at one place, and keeps what went over the link.
    private func finish(_ name: String) throws {
      try eventually("the replica stands where the primary does") {
        let (one, other) = (try primary.report(), try? replica.report())
        return one["position"] == other?["position"]
      }
      let report = try primary.report()
      streams.append((name, link.recorded(.up), link.recorded(.down)))
      expected.append(
        .init(
          name,
          .object([
            .init("txid", report["txid"] ?? .null), .init("checksum", report["checksum"] ?? .null),
          ])))
    }

    /// The files as a `kill -9` leaves them.
    func files() throws {
      let report = try primary.report()
      for key in ["database", "epoch", "txid", "checksum", "version"] {
        expected.append(.init(key, report[key] ?? .null))
      }
      expected.append(.init("tokens", .array(tokens)))
      replica.kill()
      primary.kill()
      for name in ["primary.db", "replica.db"] {
        for suffix in ["", "-wal", "-pagemap", "-identity"]
        where Files.exists(directory.file(name + suffix)) {
          var bytes = try Files.read(directory.file(name + suffix))
          // A page map has room for 4096 pages, all of it zeros; a shorter one is as good.
          if suffix == "-pagemap" {
            let pages = (Int(report["page_count"]?.integer ?? 0) + 15) / 16 * 16
            bytes = Array(bytes.prefix(PageMapLayout.fileBytes(pages: pages)))
          }
          try UpgradeFiles.write(name + suffix, bytes)
        }
      }
      for stream in streams {
        try UpgradeFiles.write(stream.name + ".up", stream.up)
        try UpgradeFiles.write(stream.name + ".down", stream.down)
      }
      var output = OutputBytes()
      JSONValue.object(expected).write(into: &output)
      try UpgradeFiles.write("expected.json", Array((output.string + "\n").utf8))
    }
  }
}
