import EdgeTesting
import Glibc
import Store
import TestTraits
import Testing
import WALShip

/// Databases in one process: every connection to a file is SQLite's own, so that no lock is
/// dropped.
@Suite(.services) struct PrimaryDatabaseTests {
  private let directory: TestDirectory
  private let path: String

  init() throws {
    directory = try TestDirectory()
    path = directory.file("p.db")
  }

  private func foreign() throws -> Connection {
    let connection = try Connection(path: path, mode: .create)
    connection.setBusyTimeout(milliseconds: 5000)
    return connection
  }

  @Test func eachCommitOfEveryConnectionGetsANumberOfItsOwn() throws {
    let database = try PrimaryDatabase(path: path)
    let start = database.tracker.position.txid
    try database.connection.execute("CREATE TABLE t(a)")
    let other = try foreign()
    try other.execute("INSERT INTO t VALUES (1)")
    try other.execute("INSERT INTO t VALUES (2)")
    let captured = try database.captureAll()
    #expect(captured.count == 3)
    #expect(captured.map(\.position.txid) == [start.next, start.next.next, start.next.next.next])
    #expect(database.tracker.position.txid == captured.last?.position.txid)
  }

  /// What the start writes is captured by then. Its last frame, taken for the end of a later commit,
  /// could lie inside of another program's transaction.
  @Test func theFramesOfTheStartAreNotThoseOfACommit() throws {
    let database = try PrimaryDatabase(path: path)
    #expect(database.connection.takeCommittedFrames() == nil)
    try database.connection.execute("CREATE TABLE t(a)")
    #expect(database.connection.takeCommittedFrames() != nil)
  }

  @Test func aLimitInsideOfATransactionIsAnError() throws {
    let database = try PrimaryDatabase(path: path)
    let before = try #require(database.logWatch.place).frame
    try database.connection.execute(
      "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (randomblob(9000))")
    let last = try #require(database.logWatch.place).frame
    #expect(last > before + 3)
    #expect(throws: (any Error).self) { try database.captureDurable(through: last - 1) }
  }

  @Test func aChangeShipsAsADifference() throws {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute(
      "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, randomblob(2000)), (2, randomblob(100))"
    )
    try database.captureAll()
    try database.connection.execute("UPDATE t SET b = randomblob(100) WHERE a = 2")
    let captured = try #require(database.captureAll().first)
    let bytes = try #require(captured.body).readableBytes
    #expect(captured.pages == 1)
    #expect(bytes < 170, "\(bytes) bytes for 100 changed ones")
  }

  /// A writer stands still between the two copies of the wal-index header: who looks for the
  /// present place meanwhile waits, and is not told that anything is wrong.
  @Test func aWriterThatStandsStillWithinTheHeaderIsWaitedFor() throws {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    try database.captureAll()
    let (watch, index) = (database.logWatch, path + "-shm")
    let place = try watch.presentPlace()
    // The counter of changes, in the second copy: what a writer changes first.
    try Files.flipBit(index, at: 48 + 8)
    let rest = BackgroundThread {
      elapse(seconds: 0.03)
      try Files.flipBit(index, at: 48 + 8)
    }
    #expect(try watch.presentPlace() == place)
    try rest.join()
    try Files.flipBit(index, at: 48 + 8)
    let error = #expect(throws: SQLiteError.self) { try watch.presentPlace() }
    #expect(error?.name == "SQLITE_BUSY")
    try Files.flipBit(index, at: 48 + 8)
  }

  /// Another program is killed between the two copies of the header: its commit counts, and writers
  /// and readers go on.
  @Test(arguments: [true, false]) func row33_aWriterThatDiedWithinTheHeader(isWhole: Bool) throws {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute("CREATE TABLE t(a)")
    try database.captureAll()
    let index = path + "-shm"
    let old = try Files.read(index).prefix(48)
    try foreign().execute("INSERT INTO t VALUES (1)")
    let descriptor = open(index, O_WRONLY | O_CLOEXEC)
    defer { close(descriptor) }
    #expect(pwrite(descriptor, Array(old), 48, 0) == 48)
    // It may also have died within the second copy.
    if !isWhole { try Files.flipBit(index, at: 48 + 20) }
    let watcher = try LogWatcher()
    _ = try watcher.add(
      databasePath: path, watch: database.logWatch, tracker: database.tracker, notify: {})
    watcher.start()
    defer { watcher.stop() }
    try eventually("a header", deadline: .seconds(10)) { database.logWatch.place != nil }
    try database.connection.execute("INSERT INTO t VALUES (2)")
    try database.captureAll()
    let rows = try database.connection.query("SELECT a FROM t").map { $0[0] }
    #expect(rows == (isWhole ? [.integer(1), .integer(2)] : [.integer(2)]))
    #expect(try scanAgrees(database))
  }

  /// Begins the WAL, all of which is copied, anew without a commit.
  private func rollBackIntoANewLog(_ database: PrimaryDatabase) throws {
    try database.connection.execute(
      "PRAGMA cache_size = 5; BEGIN; INSERT INTO t WITH RECURSIVE c(n) AS "
        + "(SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 300) SELECT randomblob(3000) FROM c; ROLLBACK"
    )
  }

  /// A large transaction that is rolled back begins the WAL anew, with nothing committed in it.
  @Test func snapshotsAreKnownAfterARollbackBeganTheLogAnew() throws {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute("CREATE TABLE t(b); INSERT INTO t VALUES (1)")
    try database.captureAll()
    let before = try #require(database.logWatch.place)
    _ = try database.checkpointer.run(isClean: true) { _ in database.map.live }
    try rollBackIntoANewLog(database)
    #expect(try #require(database.logWatch.place).salts != before.salts)
    #expect(try database.captureAll().isEmpty)
    #expect(try scanAgrees(database))
    try database.connection.execute("INSERT INTO t VALUES (2)")
    #expect(try database.captureAll().count == 1)
    #expect(try scanAgrees(database))
  }

  /// The same, with a commit of another program behind it: SQLite draws both salts of its WAL anew.
  @Test func row33_aCommitInALogWithUnknownSaltsIsCaptured() throws {
    let position = try {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute("CREATE TABLE t(b); INSERT INTO t VALUES (1)")
      try database.captureAll()
      _ = try database.checkpointer.run { _ in database.map.live }
      let before = try #require(database.logWatch.place).salts.first
      try rollBackIntoANewLog(database)
      let other = try foreign()
      other.keepLog()
      try other.execute("INSERT INTO t VALUES (2)")
      let salts = try #require(database.logWatch.place).salts
      #expect(![before, before &+ 1].contains(salts.first))
      #expect(try database.captureAll().count == 1)
      #expect(try scanAgrees(database))
      try other.execute("INSERT INTO t VALUES (3)")
      return database.tracker.position
    }()
    let database = try PrimaryDatabase(path: path)
    #expect(database.tracker.position.epoch == position.epoch)
    #expect(database.tracker.position.txid == position.txid.next)
    #expect(database.notes == [])
    #expect(try scanAgrees(database))
  }

  @Test func row26_aCommitTooLargeForOneMessageHasNoBodyButIsInTheMap() throws {
    let database = try PrimaryDatabase(path: path)
    try database.connection.execute("CREATE TABLE t(b)")
    try database.captureAll()
    try database.connection.execute(
      "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 1000)"
        + "SELECT randomblob(3000) FROM c"
    )
    let captured = try database.captureAll()
    #expect(captured.count == 1)
    #expect(captured.first?.body == nil)
    #expect(try scanAgrees(database))
  }

  /// Opens the database anew; a scan of all pages must then find nothing that the map does not
  /// know.
  private func scanAgrees(_ database: PrimaryDatabase) throws -> Bool {
    let reader = try SnapshotReader(
      path: path, pageSize: database.pageSize, tracker: database.tracker)
    let snapshot = try reader.begin()
    defer { reader.end() }
    for number in 1...snapshot.pageCount where Pgno(number) != database.pageSize.lockPage {
      let page = try reader.read(Pgno(number))
      if pageChecksum(page, pgno: Pgno(number)) != database.map.entry(Pgno(number)).checksum {
        return false
      }
    }
    return true
  }

  @Test(arguments: [512, 1024, 4096, 65536], [0, 1, 2])
  func theMapIsRightForEveryPageSizeAndVacuumMode(bytes: Int, vacuum: Int) throws {
    do {
      let connection = try foreign()
      try connection.execute(
        "PRAGMA page_size=\(bytes); PRAGMA auto_vacuum=\(vacuum); CREATE TABLE t(a, b)")
    }
    let database = try PrimaryDatabase(path: path)
    #expect(database.pageSize.bytes == bytes)
    let statements = [
      "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 300)"
        + "SELECT n, randomblob(n*7) FROM c",
      "CREATE INDEX i ON t(b)", "DELETE FROM t WHERE a % 3 = 0", "PRAGMA incremental_vacuum(5)",
      "ALTER TABLE t ADD COLUMN d DEFAULT 7", "UPDATE t SET d = a", "DROP INDEX i",
      "CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES ('some words to find')",
      "DELETE FROM t WHERE a < 250",
    ]
    for statement in statements {
      try database.connection.execute(statement)
      try database.captureAll()
      #expect(try scanAgrees(database), "\(statement)")
    }
    try database.connection.allowingVacuum { () throws(SQLiteError) in
      try database.connection.execute("VACUUM")
    }
    try database.captureAll()
    #expect(try scanAgrees(database))
  }

  @Test func aRestartContinuesTheEpochAndTakesWhatOthersWroteMeanwhile() throws {
    let (position, id) = try {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
      try database.captureAll()
      return (database.tracker.position, database.map.identity.database)
    }()
    do {
      // Not the last one to close: the WAL stays, and proves the continuation.
      let other = try foreign()
      other.keepLog()
      try other.execute("INSERT INTO t VALUES (2)")
    }
    let database = try PrimaryDatabase(path: path)
    #expect(database.map.identity.database == id)
    #expect(database.tracker.position.epoch == position.epoch)
    #expect(database.tracker.position.txid == position.txid.next)
    #expect(try scanAgrees(database))
  }

  enum NewCommit: CaseIterable {
    case none, unseen
    /// The process ended while it noted the pages.
    case begun
  }

  /// An entry of the map is damaged while no primary runs, and there is a commit that the map has
  /// not seen, or not to its end: the entry is mended all the same, and its page is not taken for
  /// damaged.
  @Test(arguments: NewCommit.allCases)
  func row15_aDamagedEntryBesideANewCommitIsMended(newCommit: NewCommit) throws {
    let position = try {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute(
        "CREATE TABLE t(a, b); CREATE TABLE u(a);"
          + "INSERT INTO t VALUES (1, randomblob(30000))")
      try database.captureAll()
      _ = try database.checkpointer.run(isClean: false) { _ in database.map.live }
      return database.tracker.position
    }()
    do {
      let other = try foreign()
      other.keepLog()
      if newCommit != .none { try other.execute("INSERT INTO u VALUES (2)") }
      _ = try other.query("SELECT count(*) FROM u")
    }
    if newCommit == .begun {
      // The page of u is noted, and not yet what the entries add up to.
      let map = try PageMapFile(opening: path + "-pagemap")
      try map.update { editor in
        editor.correct(Pgno(3), to: PageMapEntry(txid: position.txid.next, checksum: 4711))
      }
    }
    try Files.flipBit(path + "-pagemap", at: 4096 + 16 * 6 + 11)
    let database = try PrimaryDatabase(path: path)
    #expect(try scanAgrees(database))
    #expect(database.notes == ["damaged page map: 1 entry corrected"])
    #expect(
      database.tracker.position.checksum
        == database.map.checksumOfEntries(pageCount: database.map.live.pageCount))
    #expect(database.tracker.position.epoch == position.epoch)
    #expect(
      database.tracker.position.txid == (newCommit == .none ? position.txid : position.txid.next))
  }

  /// After a loss of power the entries of the last commit can be there, and the record of where they
  /// stand not; and there is no WAL where another program was the last to close the file.
  @Test func row01_aStartKnowsTheLastCommitByItsEntries() throws {
    let former: PageMapLive
    let position: Position
    do {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
      try database.captureAll()
      former = database.map.live
      try database.connection.execute("UPDATE t SET a = 2; UPDATE t SET a = 3")
      try database.captureAll()
      position = database.tracker.position
    }
    do { _ = try foreign().query("SELECT * FROM t") }
    do {
      let map = try PageMapFile(opening: path + "-pagemap")
      try map.update { $0.live = former }
    }
    let database = try PrimaryDatabase(path: path)
    #expect(database.tracker.position.epoch == position.epoch)
    // The first frame of a WAL is a commit of its own.
    #expect(database.tracker.position.txid == position.txid.next)
    #expect(try scanAgrees(database))
  }

  @Test func aCleanlyClosedFileWithoutAWALContinuesWhereItWas() throws {
    let position = try {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
      try database.captureAll()
      _ = try database.checkpointer.run(isClean: true) { _ in database.map.live }
      return database.tracker.position
    }()
    // The last to close copies the WAL into the file and removes it.
    do { _ = try foreign().query("SELECT * FROM t") }
    let database = try PrimaryDatabase(path: path)
    #expect(database.tracker.position.epoch == position.epoch)
    #expect(database.tracker.epochs.contains(epoch: position.epoch, txid: position.txid))
    #expect(try scanAgrees(database))
  }

  @Test func row18_anOlderBackupBeginsANewEpoch() throws {
    let epoch = try {
      let database = try PrimaryDatabase(path: path)
      try database.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
      try database.captureAll()
      _ = try database.checkpointer.run(isClean: true) { _ in database.map.live }
      return database.tracker.position.epoch
    }()
    do { _ = try foreign().query("SELECT * FROM t") }
    let backup = try Files.read(path)
    do {
      let database = try PrimaryDatabase(path: path)
      for number in 0..<20 { try database.connection.execute("INSERT INTO t VALUES (\(number))") }
      try database.captureAll()
      _ = try database.checkpointer.run(isClean: true) { _ in database.map.live }
    }
    do { _ = try foreign().query("SELECT * FROM t") }
    try directory.write("p.db", backup)
    let database = try PrimaryDatabase(path: path)
    #expect(database.tracker.position.epoch > epoch)
    #expect(!database.tracker.epochs.contains(epoch: epoch, txid: TXID(2)))
  }

  @Test func aReplicasFileAndAForeignFileAreRefusedUntouched() throws {
    try directory.write(
      "p.db",
      "this is not a database, but it is long enough to be looked at, as a file of a hundred bytes has to be…."
    )
    let before = try Files.read(path)
    #expect(throws: PrimaryDatabase.Failure.notADatabase(path)) {
      _ = try PrimaryDatabase(path: path)
    }
    #expect(try Files.read(path) == before)
  }
}
