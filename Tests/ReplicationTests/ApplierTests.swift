// A primary's commits, applied to a replica's file by the production parts, without a network
// between them.

import EdgeTesting
import Glibc
import NIOCore
import Serving
import Store
import Synchronization
import TestTraits
import Testing
import WALShip

@testable import Replica

/// A primary and the applier of a replica in one process. They are used on the test's thread alone.
private final class Pair {
  let directory: TestDirectory
  let primary: PrimaryDatabase
  var applier: Applier
  var captured: [CapturedTransaction] = []

  init(_ schema: String) throws {
    directory = try TestDirectory()
    primary = try PrimaryDatabase(path: directory.file("p.db"))
    try primary.connection.execute(schema)
    try primary.captureAll()
    applier = try Self.copy(primary, to: directory.file("r.db"))
  }

  /// A first copy, page by page, as the upstream sends it.
  private static func copy(_ primary: PrimaryDatabase, to path: String) throws -> Applier {
    let reader = try SnapshotReader(
      path: primary.path, pageSize: primary.pageSize, tracker: primary.tracker)
    let snapshot = try reader.begin()
    defer { reader.end() }
    do {
      let copy = try ReplicaCopy(
        beginning: path, identity: primary.map.identity, history: primary.tracker.epochs)
      for number in 1...snapshot.pageCount {
        let pgno = Pgno(number)
        try copy.write(pgno, try reader.read(pgno), txid: primary.map.entry(pgno).txid)
      }
      let isWhole = try copy.finish(
        at: snapshot.position, history: primary.tracker.epochs, pageCount: snapshot.pageCount)
      guard isWhole else { throw TestFailure("the copy does not add up") }
    }
    guard let header = try ReplicaDatabase.inspect(path) else { throw TestFailure("no copy") }
    let database = try ReplicaDatabase(path: path, header: header)
    try database.recoverMap()
    return Applier(database: database, ring: TransactionRing())
  }

  func commit(_ sql: String) throws {
    try primary.connection.execute(sql)
    captured += try primary.captureAll()
  }

  /// Stages what was captured; publishes it as one.
  func apply() throws {
    for transaction in captured {
      let body = try #require(transaction.body)
      let header = try body.withUnsafeReadableBytes { bytes in
        var reader = BodyReader(bytes)
        return try reader.transactionHeader()
      }
      let outcome = try applier.stage(body, header, epoch: transaction.position.epoch)
      #expect(outcome == .staged)
    }
    captured = []
    try applier.publish()
  }

  func read(_ sql: String) throws -> [[Value]] {
    try Connection(path: directory.file("r.db"), mode: .readOnly).query(sql)
  }

  func requireEqual() throws {
    #expect(applier.database.tracker.position == primary.tracker.position)
    let map = applier.database.map
    #expect(map.live.checksum == map.checksumOfEntries(pageCount: map.live.pageCount))
    #expect(try applier.database.scanPages() == 0, "the map is what the pages are")
    #expect(applier.database.tracker.position == primary.tracker.position)
    #expect(try read("PRAGMA integrity_check") == [[.text("ok")]])
  }
}

@Suite(.services) struct ApplierTests {
  @Test func row27_transactionsThatQueuedUpBecomeVisibleAsOne() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for number in 0..<100 { try pair.commit("INSERT INTO t VALUES (\(number), randomblob(90))") }
    let reader = try Connection(path: pair.directory.file("r.db"), mode: .readOnly)
    #expect(try reader.queryInteger("SELECT count(*) FROM t") == 0)
    try pair.apply()
    #expect(try reader.queryInteger("SELECT count(*) FROM t") == 100)
    try pair.requireEqual()
  }

  @Test func aReaderKeepsItsSnapshotWhileCommitsArrive() throws {
    let pair = try Pair("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    let reader = try Connection(path: pair.directory.file("r.db"), mode: .readOnly)
    try reader.execute("BEGIN")
    #expect(try reader.queryInteger("SELECT sum(a) FROM t") == 1)
    for round in 0..<30 {
      try pair.commit("UPDATE t SET a = a + 1; CREATE TABLE x\(round)(b)")
      try pair.apply()
    }
    #expect(try reader.queryInteger("SELECT sum(a) FROM t") == 1)
    try reader.execute("COMMIT")
    #expect(try reader.queryInteger("SELECT sum(a) FROM t") == 31)
    try pair.requireEqual()
  }

  @Test func row29_growthAndShrinkingAndTheRestartOfTheLogKeepTheFilesEqual() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for round in 0..<12 {
      try pair.commit(
        "INSERT INTO t(b) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 60)"
          + "SELECT randomblob(900) FROM c"
      )
      if round % 3 == 2 {
        try pair.commit("DELETE FROM t WHERE a % 2 = \(round % 2)")
        try pair.primary.connection.allowingVacuum { () throws(SQLiteError) in
          try pair.primary.connection.execute("VACUUM")
        }
        pair.captured += try pair.primary.captureAll()
      }
      try pair.apply()
      if round % 4 == 3 {
        let framesMax: UInt32 = round == 7 ? 1 : 1000
        #expect(try pair.applier.database.copyLog()?.isComplete == true)
        #expect(try pair.applier.database.restartLog(fileFramesMax: framesMax))
        if framesMax == 1 {
          // The header stays, so that no frame of before counts, whatever a power loss brings back.
          let left = try Files.read(pair.directory.file("r.db-wal"))
          #expect(left.count == WALHeader.byteCount)
          let header = try left.withUnsafeBytes { try WALHeader(decoding: $0) }
          #expect(header.salts == pair.applier.database.injector.place.salts)
        }
      }
      try pair.requireEqual()
    }
  }

  @Test func row13_aDamagedTransactionIsFoundBeforeAnybodySeesIt() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    try pair.commit("INSERT INTO t(b) VALUES ('something that is to be read later')")
    var body = try #require(pair.captured.first?.body)
    let header = try body.withUnsafeReadableBytes { bytes in
      var reader = BodyReader(bytes)
      return try reader.transactionHeader()
    }
    let last = body.writerIndex - 1
    let byte: UInt8 = try #require(body.getInteger(at: last))
    body.setInteger(byte ^ 1, at: last)
    let position = pair.applier.database.tracker.position
    let outcome = Result { try pair.applier.stage(body, header, epoch: Epoch(1)) }
    if case .success(let staged) = outcome { #expect(staged == .mismatch) }
    pair.applier.abandon()
    #expect(pair.applier.database.tracker.position == position)
    try pair.apply()
    try pair.requireEqual()
  }

  @Test func row08_aFullDiskLosesNothing() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    try pair.commit("INSERT INTO t(b) VALUES (randomblob(3000))")
    let faults = FaultyFiles.shared
    faults.fail(.writeLog, under: pair.directory.path, with: ENOSPC)
    let position = pair.applier.database.tracker.position
    let waiting = pair.captured
    #expect(throws: DiskError.self) { try pair.apply() }
    #expect(pair.applier.database.tracker.position == position)
    #expect(try pair.read("SELECT count(*) FROM t") == [[.integer(0)]])
    pair.applier.abandon()
    faults.heal(pair.directory.path)
    pair.captured = waiting
    try pair.apply()
    try pair.requireEqual()
  }

  /// A page number from the wire costs nothing but its page: neither a walk through all numbers up
  /// to it, nor memory for them.
  @Test func pagesFarBehindTheEndAreRefusedOrForgotten() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    let size = pair.primary.pageSize.bytes
    let position = pair.primary.tracker.position
    var page = ByteBuffer()
    [UInt8](repeating: 1, count: size).withUnsafeBytes {
      page.writeEncodedPage(Pgno(.max - 1), .raw, $0)
    }
    let header = TransactionHeader(
      txid: position.txid.next, pageCount: 2, checksum: position.checksum,
      committedMicroseconds: 0, pages: 1)
    var body = ByteBuffer()
    body.writeTransactionHeader(header)
    body.writeImmutableBuffer(page)
    #expect(throws: ShipProtocolError.self) {
      _ = try pair.applier.stage(body, header, epoch: position.epoch)
    }
    pair.applier.abandon()

    var pages = ByteBuffer(bytes: [1, 1])  // one page, of transaction 1
    pages.writeImmutableBuffer(page)
    try pair.applier.stagePages(pages)
    let end = ShipRoundEnd(
      isConsistent: true, position: position, history: pair.primary.tracker.epochs, pageCount: 2)
    #expect(pair.applier.stageRoundEnd(end) == .staged)
    #expect(pair.applier.stagedPages == 0)
    pair.applier.abandon()
    try pair.commit("INSERT INTO t(b) VALUES (1)")
    try pair.apply()
    try pair.requireEqual()
  }

  /// Closing any descriptor of a file drops the locks of the whole process on it. A stock program
  /// that then closes the database last would remove the WAL under the replica.
  @Test func aProgramThatComesAndGoesNeverRemovesTheLog() throws {
    guard let sqlite = Program(named: "sqlite3") else { return }
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for round in 0..<5 {
      try pair.commit("INSERT INTO t(b) VALUES (\(round))")
      try pair.apply()
      let child = try sqlite.run([pair.directory.file("r.db"), "SELECT count(*) FROM t"])
      #expect(child.output == "\(round + 1)\n")
      #expect(Files.size(pair.directory.file("r.db-wal")) > 0)
    }
    try pair.requireEqual()
  }

  @Test func aRestartFindsThePositionInTheFile() throws {
    let pair = try Pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for number in 0..<20 {
      try pair.commit("INSERT INTO t(b) VALUES (\(number))")
      try pair.apply()
    }
    let position = pair.applier.database.tracker.position
    let path = pair.directory.file("r.db")
    let header = try #require(try ReplicaDatabase.inspect(path))
    let replaced = pair.applier.database
    #expect(throws: WALInjector.Failure.inUse) {
      _ = try ReplicaDatabase(path: path, header: header)
    }
    #expect(replaced.tracker.position == position)
  }
}
