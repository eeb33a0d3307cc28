// Looks at pages from a client before they become part of a database: builds what the database
// would be beside it, in memory, and lets SQLite check all of it. Whether the database still stands
// where the pages belong is asked again at the commit (`PrimaryDatabase.commit`).

import CSQLite
import WALShip

/// Proves that pushed pages make a sound database. It belongs to one thread.
public final class PushCheck {
  private let path: String
  private let map: PageMapFile
  private let tracker: PositionTracker
  private var reader: SnapshotReader?

  /// All of it is in memory while it is checked: 256 MiB.
  public static let databasePagesMax: UInt32 = 65_536
  /// How long SQLite may look.
  private static let nanosecondsMax: UInt64 = 30_000_000_000
  /// How far the change counter of a client may have gone: each of its commits adds one at most.
  private static let changesMax: UInt32 = 1 << 24

  public init(path: String, map: PageMapFile, tracker: PositionTracker) {
    self.path = path
    self.map = map
    self.tracker = tracker
  }

  /// - Returns: the push, with the pages that are in it because the database grows.
  /// - Throws: `PagePush.Failure`, and `SQLiteError` when the database cannot be read now.
  public func check(_ push: PagePush) throws -> PagePush {
    let bytes = map.identity.pageSize.bytes
    guard bytes == PagePush.pageBytes else {
      throw PagePush.Failure.malformed("the database has pages of \(bytes) bytes")
    }
    guard !push.numbers.isEmpty else { throw PagePush.Failure.malformed("no page") }
    let reader =
      try self.reader
      ?? SnapshotReader(path: path, pageSize: map.identity.pageSize, tracker: tracker)
    self.reader = reader
    let (image, whole) = try build(push, reader)
    try Self.prove(image)
    return whole
  }

  /// The database as it would be, and the push with what it leaves out.
  private func build(
    _ push: PagePush, _ reader: SnapshotReader
  ) throws -> (DatabaseImage, PagePush) {
    let snapshot = try reader.begin(following: map)
    defer { reader.end() }
    guard push.isOnto(snapshot.position) else { throw PagePush.Failure.conflict }
    guard push.pageCount > 0 else { throw PagePush.Failure.malformed("no page is left") }
    guard max(push.pageCount, snapshot.pageCount) <= Self.databasePagesMax else {
      let most = Int(Self.databasePagesMax) * PagePush.pageBytes >> 20
      throw PagePush.Failure.tooLarge("pages are taken for databases of at most \(most) MiB")
    }
    let former: [UInt8] = snapshot.pageCount > 0 ? Array(try reader.read(Pgno(1))) : []
    let image = try DatabaseImage(pages: Int(push.pageCount))
    var whole = PagePush(
      epoch: push.epoch, txid: push.txid, checksum: push.checksum, pageCount: push.pageCount)
    var pushed: Set<Pgno> = []
    push.forEach { pgno, page in
      pushed.insert(pgno)
      image.set(pgno, page)
    }
    for number in 1...push.pageCount {
      let pgno = Pgno(number)
      if pushed.contains(pgno) {
        whole.append(pgno, image.page(pgno))
      } else if number <= snapshot.pageCount {
        image.set(pgno, try reader.read(pgno))
      } else {
        // A free page: SQLite writes none. What lay there before must not come back.
        whole.append(pgno, image.page(pgno))
      }
    }
    guard whole.numbers.count <= PagePush.pagesMax else {
      throw PagePush.Failure.tooLarge("at most \(PagePush.pagesMax) pages are taken at once")
    }
    try Self.checkHeader(
      image.page(Pgno(1)), former: former, hasChanged: pushed.contains(Pgno(1)),
      pageCount: (push.pageCount, snapshot.pageCount))
    return (image, whole)
  }

  // MARK: Page 1

  /// What SQLite would not change, and what this node needs as it is.
  /// Source: https://www.sqlite.org/fileformat2.html#the_database_header
  private static func checkHeader(
    _ page: UnsafeRawBufferPointer, former: [UInt8], hasChanged: Bool,
    pageCount: (UInt32, former: UInt32)
  ) throws {
    func word(_ bytes: some Collection<UInt8>, _ offset: Int) -> UInt32 {
      bytes.dropFirst(offset).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }
    func require(_ holds: Bool, _ what: String) throws {
      guard holds else { throw PagePush.Failure.malformed(what) }
    }
    guard hasChanged else {
      return try require(pageCount.0 == pageCount.former, "its size changes without its first page")
    }
    try require(page.starts(with: Array("SQLite format 3\u{0}".utf8)), "its first page is none")
    try require(page[16] == 16 && page[17] == 0, "its pages do not have 4096 bytes")
    try require(page[18] == 2 && page[19] == 2, "it is not in WAL mode")
    try require(page[21] == 64 && page[22] == 32 && page[23] == 32, "its fractions are wrong")
    try require(word(page, 28) == pageCount.0, "its size is not what its first page says")
    try require(word(page, 24) == word(page, 92), "its change counters differ")
    try require(page[72..<92].allSatisfy { $0 == 0 }, "reserved bytes of its first page are used")
    guard former.count == PagePush.pageBytes else { return }
    let changes = word(page, 24) &- word(former, 24)
    try require(changes <= changesMax, "its change counter went back")
    try require(page[20] == former[20], "it reserves other space in its pages")
    let encoding = word(former, 56)
    try require(encoding == 0 || word(page, 56) == encoding, "its text encoding has changed")
  }

  // MARK: The whole

  private static func prove(_ image: DatabaseImage) throws {
    let database: Connection
    do {
      database = try image.open()
      let budget = StatementBudget()
      budget.renew(checks: nil, deadlineNanoseconds: monotonicNanoseconds() + nanosecondsMax)
      database.limit(budget)
      try database.execute("PRAGMA cell_size_check=ON")
      let found = try database.query("PRAGMA integrity_check(1)").first?.first
      guard found == .text("ok") else {
        let text = if case .text(let text)? = found { text } else { "nobody can say why" }
        throw PagePush.Failure.malformed(text)
      }
      try checkModules(database)
    } catch let error as SQLiteError {
      if error.code & 0xff == SQLITE_INTERRUPT {
        throw PagePush.Failure.tooLarge("the pages take too long to be checked")
      }
      throw PagePush.Failure.malformed(error.message)
    }
  }

  /// Virtual tables whose modules no client may name in SQL.
  private static func checkModules(_ database: Connection) throws {
    let tables = try database.query(
      "SELECT s.sql FROM pragma_table_list AS l JOIN sqlite_schema AS s ON s.name = l.name "
        + "WHERE l.type = 'virtual' AND l.schema = 'main' AND s.type = 'table'")
    guard !tables.isEmpty else { return }
    let empty = try Connection(path: ":memory:", mode: .create)
    empty.policy = .client
    for row in tables {
      guard case .text(let sql)? = row.first else { continue }
      // Compiled, and never run: the authorizer of clients judges it.
      _ = try empty.prepare(sql)
    }
  }
}

/// A database in memory, as the bytes of its file.
private final class DatabaseImage {
  private var bytes: UnsafeMutableRawBufferPointer?

  init(pages: Int) throws(SQLiteError) {
    let count = pages * PagePush.pageBytes
    guard let memory = sqlite3_malloc64(UInt64(count)) else {
      throw SQLiteError(code: SQLITE_NOMEM, message: "no memory to check \(count) bytes")
    }
    let buffer = UnsafeMutableRawBufferPointer(start: memory, count: count)
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    bytes = buffer
  }

  deinit { sqlite3_free(bytes?.baseAddress) }

  func page(_ pgno: Pgno) -> UnsafeRawBufferPointer {
    let start = pgno.index * PagePush.pageBytes
    return UnsafeRawBufferPointer(
      rebasing: (bytes ?? .init(start: nil, count: 0))[start..<start + PagePush.pageBytes])
  }

  func set(_ pgno: Pgno, _ page: UnsafeRawBufferPointer) {
    let start = pgno.index * PagePush.pageBytes
    UnsafeMutableRawBufferPointer(
      rebasing: (bytes ?? .init(start: nil, count: 0))[start..<start + PagePush.pageBytes]
    ).copyMemory(from: page)
  }

  /// Gives the bytes to a connection, which reads them as those of a file without a WAL.
  func open() throws(SQLiteError) -> Connection {
    guard let bytes else {
      throw SQLiteError(code: SQLITE_MISUSE, message: "the image was opened before")
    }
    bytes[18] = 1
    bytes[19] = 1
    self.bytes = nil
    return try Connection(image: bytes)
  }
}
