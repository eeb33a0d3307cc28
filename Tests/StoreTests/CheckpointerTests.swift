import EdgeTesting
import Store
import TestTraits
import Testing

@Suite(.services) struct CheckpointerTests {
  private let directory: TestDirectory
  private let path: String

  init() throws {
    directory = try TestDirectory()
    path = directory.file("p.db")
  }

  private func database(rows: Int) throws -> PrimaryDatabase {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute("CREATE TABLE t(a, b)")
    for number in 0..<rows {
      try database.connection.execute("INSERT INTO t VALUES (\(number), randomblob(500))")
    }
    try database.captureAll()
    return database
  }

  @Test func aCompleteCheckpointLetsTheNextCommitBeginTheLogAnew() throws {
    let database = try database(rows: 200)
    let before = database.logState.frames
    let outcome = try database.checkpointer.run { _ in database.map.live }
    #expect(outcome.copied == before)
    try database.connection.execute("INSERT INTO t VALUES (1, 1)")
    let captured = try database.captureAll()
    #expect(captured.count == 1)
    #expect(database.logState.frames < before)
  }

  @Test func row30_nobodyElseCanCopyOrResetTheLog() throws {
    let database = try database(rows: 50)
    let other = try Connection(path: path, mode: .readWrite)
    _ = try other.query("SELECT count(*) FROM t")
    for kind in ["PASSIVE", "TRUNCATE"] {
      let answer = try other.query("PRAGMA wal_checkpoint(\(kind))").first
      #expect(answer?.first == .integer(1), "busy")
    }
    try other.execute("INSERT INTO t VALUES (0, 0)")
    #expect(try database.captureAll().count == 1)
  }

  @Test func aReaderKeepsItsSnapshotThroughACheckpoint() throws {
    let database = try database(rows: 100)
    let reader = try Connection(path: path, mode: .readOnly)
    try reader.execute("BEGIN")
    let before = try reader.queryInteger("SELECT count(*) FROM t")
    try database.connection.execute("DELETE FROM t")
    try database.captureAll()
    let outcome = try database.checkpointer.run { _ in database.map.live }
    #expect(outcome.copied < outcome.frames)
    #expect(try reader.queryInteger("SELECT count(*) FROM t") == before)
    try reader.execute("COMMIT")
    let second = try database.checkpointer.run { _ in database.map.live }
    #expect(second.copied == second.frames)
    #expect(try reader.queryInteger("SELECT count(*) FROM t") == 0)
    #expect(try reader.query("PRAGMA integrity_check").first?.first == .text("ok"))
  }

  @Test func theFileAloneIsWholeAfterACheckpoint() throws {
    let rows = 300
    do {
      let database = try database(rows: rows)
      try database.connection.execute("DELETE FROM t WHERE a > 100")
      try database.connection.allowingVacuum { () throws(SQLiteError) in
        try database.connection.execute("VACUUM")
      }
      try database.captureAll()
      let outcome = try database.checkpointer.run { _ in database.map.live }
      #expect(outcome.copied == outcome.frames)
    }
    try directory.write("copy.db", try Files.read(path))
    let copy = try Connection(path: directory.file("copy.db"), mode: .readWrite)
    #expect(try copy.query("PRAGMA integrity_check").first?.first == .text("ok"))
    #expect(try copy.queryInteger("SELECT count(*) FROM t") == 101)
  }
}
