// A primary's database: the one writing connection, the capture of everybody's commits, the page
// map and the checkpointer, opened in an order that loses nothing.

import WALShip

/// An open primary database. It belongs to the writer's thread, apart from what is marked
/// otherwise.
public final class PrimaryDatabase: @unchecked Sendable {  // see the comments
  public let path: String
  public let pageSize: PageSize
  public let connection: Connection
  /// May be used from any thread.
  public let map: PageMapFile
  /// May be used from any thread.
  public let tracker: PositionTracker
  /// Used by one thread at a time: the checkpoint thread while the node runs.
  public let checkpointer: Checkpointer
  public private(set) var capture: WALCapture
  /// May be used from any thread.
  public let logWatch: LogWatch
  private let index: WALIndex
  private let log: LogFile
  /// What the start did, for the log.
  public private(set) var notes: [String] = []

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notADatabase(String)
    case replicaFile(String)
    case locked(String)
    case cannotSwitchToWAL(String, String)
    case pageMapMismatch(String)
    public var description: String {
      switch self {
      case .notADatabase(let path): "\(path) is not a SQLite database"
      case .replicaFile(let path):
        "\(path) is a replica's file: start it with `edge-sql replica`"
      case .locked(let path):
        "another edge-sql primary, or a program that checkpoints without end, has \(path) open"
      case .cannotSwitchToWAL(let path, let mode):
        "\(path) stays in journal mode \(mode): close the programs that use it and start again"
      case .pageMapMismatch(let path):
        "\(path) belongs to another database or a newer release; move it away to let the primary make a new one"
      }
    }
  }

  public static func pageMapPath(of database: String) -> String { database + "-pagemap" }

  /// Opens the database at `path`, or makes one.
  ///
  /// - Parameter logFileFramesMax: a -wal file that grew beyond so many frames is cut when a commit
  ///   of this node begins it anew.
  public init(
    path: String, newPageSize: PageSize? = nil, logFileFramesMax: UInt32 = 4000
  ) throws {
    self.path = path
    try Self.inspect(path)
    let isEmpty = try !Self.hasPages(path)
    connection = try Connection(path: path, mode: .create)
    connection.setBusyTimeout(milliseconds: 5000)
    if let newPageSize, isEmpty {
      try connection.execute("PRAGMA page_size=\(newPageSize.bytes)")
    }
    let mode = try connection.query("PRAGMA journal_mode").first?.first
    if mode != .text("wal") {
      let now = try connection.query("PRAGMA journal_mode=WAL").first?.first
      guard now == .text("wal") else {
        throw Failure.cannotSwitchToWAL(path, mode.map { "\($0)" } ?? "?")
      }
      if !isEmpty { notes.append("switched the database to WAL mode") }
    }
    connection.waitForLocks(milliseconds: 5000)
    connection.keepLog()
    connection.countFrames()
    try connection.execute(
      "PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST; PRAGMA foreign_keys=ON"
    )
    guard let bytes = try connection.queryInteger("PRAGMA page_size"),
      let pageSize = PageSize(Int(bytes))
    else { throw Failure.notADatabase(path) }
    self.pageSize = pageSize
    let frameBytes = pageSize.bytes + FrameHeader.byteCount
    try connection.execute(
      "PRAGMA journal_size_limit=\(WALHeader.byteCount + Int(logFileFramesMax) * frameBytes)")
    _ = try connection.query("SELECT rootpage FROM sqlite_schema LIMIT 1")
    index = try WALIndex(connection: connection)
    log = try LogFile(databasePath: path, pageSize: pageSize, writable: true)

    let opened = try Self.openMap(path, pageSize)
    map = opened.map
    checkpointer = try Checkpointer(path: path, map: map)
    guard checkpointer.takeLock(milliseconds: 3000) else { throw Failure.locked(path) }

    let recovery = PageMapRecovery(map: map, index: index, log: log)
    let recovered = try Self.recover(
      recovery, connection: connection, isNew: opened.isNew,
      changeCounter: try checkpointer.fileChangeCounter())
    notes += recovered.notes
    capture = recovered.capture
    // Whatever the WAL holds by now is about to be told to replicas: it must survive a power loss.
    try log.file.sync(.syncLog)
    let live = map.live
    let history = map.base.history
    tracker = PositionTracker(
      position: Position(
        database: map.identity.database, epoch: history.current, txid: live.txid,
        checksum: live.checksum),
      place: capture.place, history: history)
    logWatch = LogWatch(index: index, log: log.file)
  }

  /// The file is looked at before SQLite opens it: what is not ours stays untouched.
  private static func inspect(_ path: String) throws {
    guard let size = Disk.size(path), size > 0 else { return }
    guard let header = DatabaseHeader(try Disk.readPrefix(of: path, count: 100)) else {
      throw Failure.notADatabase(path)
    }
    if header.stamp != nil { throw Failure.replicaFile(path) }
  }

  private static func hasPages(_ path: String) throws -> Bool { (Disk.size(path) ?? 0) > 0 }

  private static func openMap(
    _ path: String, _ pageSize: PageSize
  ) throws -> (map: PageMapFile, isNew: Bool) {
    let mapPath = pageMapPath(of: path)
    if Disk.exists(mapPath) {
      let map: PageMapFile
      do {
        map = try PageMapFile(opening: mapPath)
      } catch is PageMapIdentity.Failure {
        throw Failure.pageMapMismatch(mapPath)
      }
      guard map.identity.pageSize == pageSize else { throw Failure.pageMapMismatch(mapPath) }
      return (map, false)
    }
    let identity = PageMapIdentity(
      database: DatabaseID(high: .random(in: 1 ... .max), low: .random(in: 0 ... .max)),
      pageSize: pageSize)
    let map = try PageMapFile(
      creating: mapPath, identity: identity, history: EpochHistory(current: Epoch(1)))
    return (map, true)
  }

  // MARK: Recovery

  private static func recover(
    _ recovery: PageMapRecovery, connection: Connection, isNew: Bool, changeCounter: UInt32
  ) throws -> (capture: WALCapture, notes: [String]) {
    let map = recovery.map
    guard let header = recovery.index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    if !isNew, let place = recovery.connectingPlace(header) {
      let before = map.live
      let trustsLive = map.isOfThisBoot
      let capture = try recovery.replay(from: place, numbering: .counting)
      let now = map.live
      guard trustsLive, now.txid < before.txid else { return (capture, []) }
      // The WAL ends before what was seen of it: an older copy. What was after is lost.
      var history = map.base.history
      history.fork(after: now.txid)
      try saveBase(map, history: history, place: capture.place, changeCounter: changeCounter)
      capture.epoch = history.current
      return (
        capture,
        ["the WAL ends at transaction \(now.txid), before \(before.txid): a new epoch begins"]
      )
    }
    return try rescan(recovery, connection: connection, isNew: isNew, changeCounter: changeCounter)
  }

  private static func rescan(
    _ recovery: PageMapRecovery, connection: Connection, isNew: Bool, changeCounter: UInt32
  ) throws -> (capture: WALCapture, notes: [String]) {
    let map = recovery.map
    try connection.execute("BEGIN IMMEDIATE")
    defer { if !connection.isAutocommit { try? connection.execute("COMMIT") } }
    guard let header = recovery.index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    let count = try connection.queryInteger("PRAGMA page_count") ?? 0
    let known = max(map.live.txid, map.base.txid)
    let trusted = map.isOfThisBoot || map.base.isClean
    let differing = try recovery.scan(header, pageCount: UInt32(clamping: count), txid: known.next)
    let capture = WALCapture(
      index: recovery.index, log: recovery.log, map: map, place: header.place, numbering: .counting)
    var history = map.base.history
    var notes: [String] = []
    if differing == 0 {
      try map.update { $0.live.txid = known }
    } else if isNew {
      notes = ["adopted the database: \(count) pages"]
    } else if trusted, changeCounter > map.base.changeCounter {
      notes = ["\(differing) pages changed while no primary ran: captured as one transaction"]
    } else {
      history.fork(after: .zero)
      notes = [
        "\(differing) pages differ from the page map, and it cannot be proven why: a new epoch begins"
      ]
    }
    try saveBase(map, history: history, place: header.place, changeCounter: changeCounter)
    capture.epoch = history.current
    try connection.execute("COMMIT")
    if header.salts == Salts(first: 0, second: 0) {
      try beginLog(connection)
      _ = try capture.capture()
      try saveBase(map, history: history, place: capture.place, changeCounter: changeCounter)
    }
    return (capture, notes)
  }

  /// A WAL without a single frame has no salts, and so could not prove later what came after it:
  /// write one frame.
  private static func beginLog(_ connection: Connection) throws {
    let version = try connection.queryInteger("PRAGMA user_version") ?? 0
    try connection.execute("PRAGMA user_version=\(version)")
  }

  private static func saveBase(
    _ map: PageMapFile, history: EpochHistory, place: LogPlace, changeCounter: UInt32
  ) throws {
    var base = map.base
    let live = map.live
    base.history = history
    base.isClean = false
    base.txid = live.txid
    base.checksum = live.checksum
    base.pageCount = live.pageCount
    base.place = place
    base.changeCounter = changeCounter
    try map.saveBase(base)
  }

  // MARK: Commits

  /// Takes the commits up to frame `limit`, which are durable already.
  @discardableResult
  public func captureDurable(through limit: UInt32) throws -> [CapturedTransaction] {
    note(try capture.capture(through: limit))
  }

  /// Takes all commits there are, after making them durable.
  @discardableResult
  public func captureAll() throws -> [CapturedTransaction] {
    guard let header = index.header(), header.place != capture.place else { return [] }
    try log.file.sync(.syncLog)
    return note(try capture.capture(through: header.frameCount))
  }

  /// Called for each commit before anybody can learn its position.
  public var onCapture: (CapturedTransaction) -> Void = { _ in }
  /// Called once the positions of some commits are known.
  public var onAdvance: () -> Void = {}

  private func note(_ captured: [CapturedTransaction]) -> [CapturedTransaction] {
    for transaction in captured {
      onCapture(transaction)
      tracker.advance(to: transaction.position, at: transaction.place)
    }
    if !captured.isEmpty { onAdvance() }
    return captured
  }

  /// The size of the WAL in frames, and how many of them are in the file already.
  public var logState: (frames: UInt32, copied: UInt32) {
    (index.header()?.frameCount ?? 0, index.backfilled)
  }
}

/// Sees whether the WAL has moved, by looking at shared memory. Safe to use from any thread.
public struct LogWatch: Sendable {
  let index: WALIndex
  let log: DiskFile
  public var place: LogPlace? { index.header()?.place }
  public var frames: UInt32 { index.header()?.frameCount ?? 0 }
  public var copiedFrames: UInt32 { index.backfilled }
  /// The size of the -wal file, which keeps its length when the WAL begins anew.
  public var fileBytes: Int { log.size }
}
