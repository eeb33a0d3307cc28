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
  /// Where the database stood when it was opened.
  private let start: Position
  /// May be used from any thread.
  public let logWatch: LogWatch
  let index: WALIndex
  let log: LogFile
  private let logFileBytesMax: Int
  private static let settings =
    "PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST; PRAGMA foreign_keys=ON"
  /// What the start did, for the log.
  public private(set) var notes: [String] = []

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case notADatabase(String)
    case replicaFile(String)
    case locked(String)
    case cannotSwitchToWAL(String, String)
    case newerPageMap(String)
    /// The page map knows a database that is not there any more.
    case missing(String)
    /// Pages changed although no program wrote them.
    case damagedPages(String, [Pgno])
    /// Another primary has begun a later epoch.
    case superseded(String, Epoch)
    public var description: String {
      switch self {
      case .notADatabase(let path): "\(path) is not a SQLite database"
      case .replicaFile(let path):
        "\(path) is a replica's file: start it with `edge-sql replica`"
      case .locked(let path):
        "another edge-sql primary, or a program that checkpoints without end, has \(path) open"
      case .cannotSwitchToWAL(let path, let mode):
        "\(path) stays in journal mode \(mode): close the programs that use it and start again"
      case .newerPageMap(let path): "\(path) was written by a newer release of edge-sql"
      case .missing(let path):
        """
        \(path) is missing, but its page map is there: put the database back with \
        `edge-sql restore`, or remove \(path)-pagemap and \(path)-identity to begin an empty one
        """
      case .damagedPages(let path, let pages):
        """
        pages \(pages.map(\.description).joined(separator: ", ")) of \(path) are damaged: take a \
        copy from a replica with `edge-sql backup`, and put it in place with `edge-sql restore`
        """
      case .superseded(let path, let epoch):
        """
        another primary has begun epoch \(epoch) of \(path): run `edge-sql demote` to follow it, \
        or `edge-sql promote` to take over again
        """
      }
    }
  }

  public static func pageMapPath(of database: String) -> String { database + "-pagemap" }

  /// Opens the database at `path`, or makes one.
  ///
  /// - Parameter logFileFramesMax: a -wal file that grew beyond so many frames is cut when a commit
  ///   of this node begins it anew.
  public convenience init(
    path: String, newPageSize: PageSize? = nil, logFileFramesMax: UInt32 = 4000
  ) throws {
    try self.init(
      path: path, newPageSize: newPageSize, logFileFramesMax: logFileFramesMax,
      acceptsSuperseded: false)
  }

  convenience init(path: String, acceptsSuperseded: Bool) throws {
    try self.init(
      path: path, newPageSize: nil, logFileFramesMax: 4000, acceptsSuperseded: acceptsSuperseded)
  }

  private init(
    path: String, newPageSize: PageSize?, logFileFramesMax: UInt32, acceptsSuperseded: Bool
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
    try connection.execute(Self.settings)
    guard let bytes = try connection.queryInteger("PRAGMA page_size"),
      let pageSize = PageSize(Int(bytes))
    else { throw Failure.notADatabase(path) }
    self.pageSize = pageSize
    let frameBytes = pageSize.bytes + FrameHeader.byteCount
    logFileBytesMax = WALHeader.byteCount + Int(logFileFramesMax) * frameBytes
    try connection.execute("PRAGMA journal_size_limit=\(logFileBytesMax)")
    _ = try connection.query("SELECT rootpage FROM sqlite_schema LIMIT 1")
    index = try WALIndex(connection: connection)
    log = try LogFile(databasePath: path, pageSize: pageSize, writable: true)

    let opened = try Self.openMap(path, pageSize, acceptsSuperseded: acceptsSuperseded)
    map = opened.map
    notes += opened.notes
    checkpointer = try Checkpointer(path: path, map: map)
    guard checkpointer.takeLock(milliseconds: 3000) else { throw Failure.locked(path) }

    let recovered = try PrimaryRecovery(
      pages: PageMapRecovery(map: map, index: index, log: log), connection: connection,
      checkpointer: checkpointer, path: path, origin: opened.origin
    ).run()
    notes += recovered.notes
    capture = recovered.capture
    // Whatever the WAL holds by now is about to be told to replicas: it must survive a power loss.
    try log.file.sync(.syncLog)
    // The same goes for its name, which SQLite syncs only with the first commit of its own.
    try Disk.syncDirectory(of: path)
    // From now on what is durable of the map is not where the database stands, until it is closed.
    try map.noteOpen()
    let live = map.live
    let history = map.base.history
    try DatabaseIdentity(map).save(path)
    start = Position(
      database: map.identity.database, epoch: history.current, txid: live.txid,
      checksum: live.checksum)
    tracker = PositionTracker(position: start, place: capture.place, history: history)
    logWatch = LogWatch(index: index, log: log.file)
    // What was committed up to here is captured. Counted as a commit to come, its last frame would
    // be taken for one of the next WAL, where it can lie inside of another program's transaction.
    connection.countFrames()
  }

  /// Another connection that writes, like the first one. Its commits are captured like everybody's.
  ///
  /// - Parameter temporaryBytesMax: what its TEMP objects may take.
  public func openConnection(temporaryBytesMax: Int) throws(SQLiteError) -> Connection {
    let opened = try Connection(path: path, mode: .readWrite)
    opened.waitForLocks(milliseconds: 5000)
    opened.keepLog()
    opened.countFrames()
    try opened.execute(Self.settings)
    try opened.execute("PRAGMA journal_size_limit=\(logFileBytesMax)")
    let pages = max(1, temporaryBytesMax / pageSize.bytes)
    try opened.execute("PRAGMA temp.max_page_count=\(pages)")
    return opened
  }

  /// The file is looked at before SQLite opens it: what is not ours stays untouched.
  private static func inspect(_ path: String) throws {
    if DatabaseIdentity.isNewer(path) {
      throw Failure.newerPageMap(DatabaseIdentity.path(of: path))
    }
    // Before SQLite makes files of its own beside the database.
    _ = try existingMap(pageMapPath(of: path))
    guard let size = Disk.size(path), size > 0 else {
      let known = try existingMap(pageMapPath(of: path))
      let hadPages = known.map { $0.live.pageCount > 0 } ?? (DatabaseIdentity.load(path) != nil)
      if hadPages { throw Failure.missing(path) }
      return
    }
    guard let header = try DatabaseHeader(file: path) else {
      throw Failure.notADatabase(path)
    }
    if header.stamp != nil { throw Failure.replicaFile(path) }
  }

  private static func hasPages(_ path: String) throws -> Bool { (Disk.size(path) ?? 0) > 0 }

  private static func openMap(
    _ path: String, _ pageSize: PageSize, acceptsSuperseded: Bool
  ) throws -> (map: PageMapFile, origin: PrimaryRecovery.Origin, notes: [String]) {
    let mapPath = pageMapPath(of: path)
    if let map = try existingMap(mapPath), map.identity.pageSize == pageSize {
      let known = DatabaseIdentity.load(path)
      if let known, known.identity == map.identity,
        known.history.current > map.base.history.current
      {
        // A promotion has begun a new epoch.
        var base = map.base
        base.history = known.history
        try map.saveBase(base)
      }
      let (epoch, superseding) = (map.base.history.current, map.base.superseding)
      guard superseding <= epoch || acceptsSuperseded else {
        throw Failure.superseded(path, superseding)
      }
      return (map, .found, [])
    }
    // Lost or damaged, or another file lies in the place of the one that it was made for.
    if var known = DatabaseIdentity.load(path) {
      known.identity.pageSize = pageSize
      guard known.superseding <= known.history.current || acceptsSuperseded else {
        throw Failure.superseded(path, known.superseding)
      }
      let map = try PageMapFile(creating: mapPath, identity: known.identity, history: known.history)
      if known.superseding > Epoch(0) { try map.supersede(by: known.superseding) }
      return (map, .rebuilt, [])
    }
    let identity = PageMapIdentity(
      database: DatabaseID.random(),
      pageSize: pageSize)
    let notes =
      Disk.exists(mapPath)
      ? ["the page map is damaged: the database gets a new id, replicas need --reset"] : []
    let map = try PageMapFile(
      creating: mapPath, identity: identity, history: EpochHistory(current: Epoch(1)))
    return (map, .new, notes)
  }

  /// - Returns: nil when there is none, or it is damaged.
  private static func existingMap(_ path: String) throws -> PageMapFile? {
    guard Disk.exists(path) else { return nil }
    do {
      return try PageMapFile(opening: path)
    } catch PageMapIdentity.Failure.newerFormat {
      throw Failure.newerPageMap(path)
    } catch is PageMapIdentity.Failure {
      return nil
    }
  }

  /// Begins a new epoch behind what was here at the start: a follower has transactions of this epoch
  /// that this file never had, so all files of this primary were those of an earlier moment.
  ///
  /// - Returns: whether it did: not when the epoch has changed since the start.
  public func leaveEpoch() throws -> Bool {
    try captureAll()
    var history = tracker.epochs
    guard history.current == start.epoch else { return false }
    history.fork(after: start.txid, above: map.base.superseding)
    var base = map.base
    base.history = history
    try map.saveBase(base)
    try DatabaseIdentity(map).save(path)
    capture.epoch = history.current
    var position = tracker.position
    position.epoch = history.current
    tracker.advance(to: position, at: capture.place, history: history)
    onAdvance()
    return true
  }

  /// Notes durably that another primary has begun a later epoch: the next start refuses to go on.
  /// May be called from any thread.
  public func noteSuperseded(by epoch: Epoch) throws {
    try map.supersede(by: epoch)
    try DatabaseIdentity(map).save(path)
  }

  /// Gives the checkpoint lock back, after the last checkpoint: whoever opens the database next
  /// need not wait until nothing here is in memory any more. Nothing may run on this database then.
  public func leaveCheckpoints() { checkpointer.giveLock() }

  // MARK: Commits

  /// Takes the commits up to frame `limit`, which are durable already.
  @discardableResult
  public func captureDurable(through limit: UInt32) throws -> [CapturedTransaction] {
    try capturing { try capture.capture(through: limit) }
  }

  /// Takes all commits there are, after making them durable.
  @discardableResult
  public func captureAll() throws -> [CapturedTransaction] {
    guard let header = index.header(), header.place != capture.place else { return [] }
    return try capturing {
      try log.file.sync(.syncLog)
      return try capture.capture(through: header.frameCount)
    }
  }

  /// A failure is final: after a failed sync a second one would succeed and prove nothing, and a
  /// capture that ended in the middle has left the page map behind.
  private func capturing(
    _ body: () throws -> [CapturedTransaction]
  ) throws -> [CapturedTransaction] {
    if let captureFailure { throw captureFailure }
    do {
      let before = capture.place
      let captured = note(try body())
      // A transaction that was rolled back can have begun the WAL anew: the same state has another
      // place now, and snapshots of it must be known.
      if captured.isEmpty, capture.place != before {
        tracker.advance(to: tracker.position, at: capture.place)
      }
      return captured
    } catch {
      captureFailure = error
      throw error
    }
  }
  private var captureFailure: (any Error)?

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
  /// See `WALIndex.mendHeader`; for a primary alone.
  func mendHeader() -> Bool { index.mendHeader() }
  public var frames: UInt32 { index.header()?.frameCount ?? 0 }
  public var copiedFrames: UInt32 { index.backfilled }
  /// The size of the -wal file, which keeps its length when the WAL begins anew.
  public var fileBytes: Int { log.size }
}
