// Pages that no SQLite would have written, and pushes that meet a disk that fails: nothing of them is
// ever seen.

import EdgeTesting
import Glibc
import Serving
import Store
import TestTraits
import Testing
import WALShip

@testable import Primary
@testable import Replica

@Suite(.services) struct PushedPagesTests {
  private static let frameBytes = 4120
  private static let headerBytes = 24

  private func run(_ nodes: HTTPNodes, _ statements: [String]) throws {
    for result in try nodes.results(statements.map { execute($0) }) where result.code != nil {
      throw TestFailure("\(result)")
    }
  }

  /// Frames of a transaction that changed page 1 and the leaves of a table and its index.
  private func copy(_ nodes: HTTPNodes) throws -> OfflineCopy {
    try run(
      nodes,
      [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, data)", "CREATE INDEX i ON t(data)",
        "CREATE VIRTUAL TABLE words USING fts5(word)", "INSERT INTO t VALUES (1, 'one')",
      ])
    let copy = EmbeddedCopy()
    try copy.begin(nodes.port)
    let offline = try OfflineCopy(copy, in: nodes.directory, "copy.db")
    try offline.write("BEGIN; CREATE TABLE u(a); INSERT INTO t VALUES (2, 'two'); COMMIT")
    return offline
  }

  private struct Change: CustomTestStringConvertible, Sendable {
    var testDescription: String
    /// Which page of the push, from 0; -1 for the frame's header of the first one.
    var page: Int
    var offset: Int
    var bytes: [UInt8]
    var says: String

    init(_ name: String, _ page: Int, _ offset: Int, _ bytes: [UInt8], _ says: String) {
      testDescription = name
      self.page = page
      self.offset = offset
      self.bytes = bytes
      self.says = says
    }
  }

  private static let changes = [
    Change("no database", 1, 0, [0], "its first page is none"),
    Change("another page size", 1, 16, [2, 0], "4096"),
    Change("a rollback journal", 1, 18, [1, 1], "WAL mode"),
    Change("read-only", 1, 18, [3], "WAL mode"),
    Change("reserved space", 1, 20, [8], "other space"),
    Change("fractions", 1, 21, [65], "fractions"),
    Change("an old counter", 1, 24, [0, 0, 0, 0], "counters differ"),
    Change("a size", 1, 28, [0, 0, 9, 0], "its size is not"),
    Change("a free list", 1, 32, [0, 0, 0, 3], "the pages make no sound database"),
    Change("an encoding", 1, 56, [0, 0, 0, 2], "encoding"),
    Change("a stamp", 1, 72, [1], "reserved"),
    Change("a schema that is none", 1, 100, [9], "the pages make no sound database"),
    Change("a leaf that is none", 2, 0, [0xff], "the pages make no sound database"),
    Change("cells out of order", 2, 8, [0x0f, 0xff], "the pages make no sound database"),
    Change("an index of other rows", 3, 4090, [0x7a, 0x7a], "the pages make no sound database"),
    Change("page 0", -1, 0, [0, 0, 0, 0], "a frame has no page"),
    Change("another page", -1, 0, [0, 0, 0, 77], "the pages make no sound database"),
  ]

  /// The frame of the page that is changed: page 1, the root of the table, that of its index.
  private func frame(_ number: Int, in bytes: [UInt8]) throws -> Int {
    if number < 0 { return 0 }
    for start in stride(from: 0, to: bytes.count, by: Self.frameBytes)
    where bytes[start..<start + 4].reduce(0, { $0 << 8 | Int($1) }) == number { return start }
    throw TestFailure("page \(number) was not pushed")
  }

  @Test(arguments: [NodeRole.primary, .replica])
  func pagesThatMakeNoDatabaseAreRefused(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let copy = try copy(nodes)
      let before = nodes.primary.tracker.position
      let all = try copy.bytes(1...(try copy.last))
      for change in Self.changes {
        var bytes = all
        let start =
          try frame(change.page, in: bytes) + (change.page < 0 ? 0 : Self.headerBytes)
          + change.offset
        bytes.replaceSubrange(start..<start + change.bytes.count, with: change.bytes)
        let answer = try copy.post(1...(try copy.last), bytes: bytes, nodes.port)
        #expect(answer.status == 422, "\(change.testDescription): \(answer.text)")
        #expect(answer.text.contains(change.says), "\(change.testDescription): \(answer.text)")
      }
      // Not as many frames as the address says, half a frame, none at all.
      for bytes in [Array(all.dropLast(Self.frameBytes)), Array(all.dropLast()), []] {
        #expect(try copy.post(1...(try copy.last), bytes: bytes, nodes.port).status == 422)
      }
      #expect(nodes.primary.tracker.position == before)
      // None of them has spoiled the copy.
      #expect(try copy.push(nodes.port) == .pushed)
      #expect(nodes.primary.tracker.position.txid == before.txid.next)
    }
  }

  /// What clients may not say in SQL, they may not write into the schema either.
  @Test func aSchemaThatClientsMayNotMakeIsRefused() async throws {
    try await HTTPNodes.with { nodes in
      let copy = try copy(nodes)
      let before = nodes.primary.tracker.position
      for sql in [
        "CREATE VIRTUAL TABLE v USING dbstat", "CREATE VIRTUAL TABLE v USING nothing(a)",
        "CREATE TABLE v(", "CREATE TABLE t(b)",
      ] {
        let copied = EmbeddedCopy()
        try copied.begin(nodes.port)
        let name = "forged\(sql.count).db"
        let forged = try OfflineCopy(copied, in: nodes.directory, name)
        // While it is open, the last to leave does not fold the log into the file.
        #expect(try forged.connection.queryInteger("SELECT count(*) FROM t") == 1)
        let script =
          "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); "
          + "d.execute('PRAGMA writable_schema=ON'); d.execute('PRAGMA wal_autocheckpoint=0'); "
          + "d.execute('INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)', "
          + "('table', 'v', 'v', 0, sys.argv[2]))"
        let made = try Program(path: "/usr/bin/env").run(
          ["python3", "-c", script, nodes.directory.file(name), sql])
        guard made.status == .exited(0) else { throw TestFailure(made.error) }
        guard case .refused(422, _) = try forged.push(nodes.port) else {
          throw TestFailure("\(sql) was taken")
        }
      }
      #expect(nodes.primary.tracker.position == before)
      #expect(try copy.push(nodes.port) == .pushed)
    }
  }

  @Test(arguments: [DiskOperation.writeLog, .syncLog], [0, 1])
  func aDiskThatFailsLeavesNothingOrAll(_ operation: DiskOperation, spared: Int) async throws {
    try await HTTPNodes.with { nodes in
      let copy = try copy(nodes)
      let path = nodes.directory.file("primary.db-wal")
      let faults = FaultyFiles.shared
      faults.fail(operation, under: path, with: EIO, sparing: spared, times: 1)
      defer { faults.heal(path) }
      _ = try copy.push(nodes.port)
      faults.heal(path)
      // Whatever it was told, the copy comes through with the same push.
      copy.durable = 0
      let outcome = try copy.push(nodes.port)
      let primary = try Connection(path: nodes.directory.file("primary.db"), mode: .readOnly)
      let rows = try primary.queryInteger("SELECT count(*) FROM t")
      #expect(try primary.query("PRAGMA integrity_check") == [[.text("ok")]])
      #expect(rows == (outcome == .pushed ? 2 : 1), "\(outcome)")
    }
  }
}
