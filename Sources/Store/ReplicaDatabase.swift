// A replica's database: the injector, the page map that tells it apart from its upstream, and its
// checkpoints.

import WALShip

/// An open replica database. It belongs to the applier's thread, apart from what is marked
/// otherwise.
public final class ReplicaDatabase: @unchecked Sendable {  // see the comments
  public let path: String
  public let pageSize: PageSize
  /// May be used from any thread.
  public let tracker: PositionTracker
  /// May be used from any thread, once `recoverMap` has run.
  public private(set) var map: PageMapFile
  /// May be used from any thread.
  public let logWatch: LogWatch
  public let injector: WALInjector
  private let copier: LogCopier
  /// True when the pages are not what the stamp says: somebody else wrote to the file.
  public private(set) var isForeign = false
  /// What is here may be less than what was served before: reads must wait for the upstream.
  public private(set) var awaitsUpstream = false
  /// The last transaction that is known to have been served.
  private var served = TXID.zero
  private let mapIsNew: Bool
  /// Nothing can have been lost since the map was written.
  private let isTrusted: Bool
  /// Pages that recovery found to be other than the map of the same transaction says.
  private(set) var unexplainedPages = 0
  /// Pages are not what the map said, and it was changed to say what they are: they are served
  /// again, and passed on, once they were compared with the upstream's.
  public private(set) var isDoubtful: Bool

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case foreignFile(String)
    case otherPageMap(String)
    public var description: String {
      switch self {
      case .foreignFile(let path):
        "\(path) is not a replica's file: it is left as it is; move it away, or choose another --db"
      case .otherPageMap(let path):
        "\(path) was written by a newer release of edge-sql"
      }
    }
  }

  public static func pageMapPath(of database: String) -> String { database + "-pagemap" }

  /// What lies at `path`.
  ///
  /// - Throws: `.foreignFile` for anything that is not a replica's database, `SQLITE_CANTOPEN`
  ///   where no file can be made; nothing was touched.
  public static func inspect(_ path: String) throws -> DatabaseHeader? {
    guard let size = Disk.size(path), size > 0 else {
      try Disk.requireFolder(of: path)
      return nil
    }
    let header = try DatabaseHeader(file: path)
    guard let header, header.stamp != nil else { throw Failure.foreignFile(path) }
    return header
  }

  /// Opens a replica's file; it can be read at once. `recoverMap` must follow before anything is
  /// applied.
  public init(path: String, header: DatabaseHeader) throws {
    self.path = path
    pageSize = header.pageSize
    let opened = try Self.openMap(path, header)
    map = opened.map
    mapIsNew = opened.isNew
    let nowhere = LogPlace(salts: Salts(first: 0, second: 0), frame: 0)
    let identity = map.identity.database
    let history = map.base.history
    let told =
      header.stamp ?? PositionStamp(database: identity.short, epoch: history.current, txid: .zero)
    tracker = PositionTracker(
      position: Position(
        database: identity, epoch: told.epoch, txid: told.txid, checksum: .empty),
      place: nowhere, history: history)
    injector = try WALInjector(path: path, pageSize: pageSize, tracker: tracker)
    copier = try LogCopier(path: path, pageSize: pageSize)
    // Where the checkpoint of another program runs just now, `copyLog` takes it later.
    _ = copier.takeLock(milliseconds: 0)
    logWatch = LogWatch(index: injector.index, log: injector.log.file)
    var stamp = told
    do {
      stamp = try injector.stamp()
    } catch WALInjector.Failure.foreignWrite {
      isForeign = true
    }
    tracker.advance(
      to: Position(database: identity, epoch: stamp.epoch, txid: stamp.txid, checksum: .empty),
      at: injector.place)
    // After a power loss the last frames may be gone, and nobody knows how many there were.
    isDoubtful = map.base.isDoubtful
    isTrusted = !mapIsNew && !isDoubtful && (map.isOfThisBoot || map.base.isClean)
    // A rewind can have left a later number behind, of an epoch that is gone.
    if isTrusted, stamp.epoch == map.base.history.current {
      served = max(map.live.txid, map.base.txid)
    }
    awaitsUpstream = isForeign || !isTrusted || stamp.txid < served
  }

  /// Tells that all is here up to the upstream's transaction `head`.
  ///
  /// - Returns: true when that ends the waiting.
  public func reached(head: TXID) -> Bool {
    guard awaitsUpstream, !isForeign, tracker.position.txid >= max(served, head) else {
      return false
    }
    awaitsUpstream = false
    return true
  }

  private static func openMap(
    _ path: String, _ header: DatabaseHeader
  ) throws -> (map: PageMapFile, isNew: Bool) {
    let mapPath = pageMapPath(of: path)
    do {
      let map = try PageMapFile(opening: mapPath)
      if map.identity.pageSize == header.pageSize,
        map.identity.database.short == header.stamp?.database
      {
        return (map, false)
      }
    } catch PageMapIdentity.Failure.newerFormat {
      throw Failure.otherPageMap(mapPath)
    } catch {
      // Lost or damaged: it is made anew from the pages.
    }
    // The upstream tells the whole identity; until then its first digits must do.
    let identity = PageMapIdentity(
      database: DatabaseID(short: header.stamp?.database ?? 0),
      pageSize: header.pageSize)
    let history = EpochHistory(current: header.stamp?.epoch ?? Epoch(0))
    return (try PageMapFile(creating: mapPath, identity: identity, history: history), true)
  }

  // MARK: The page map

  /// Brings the map up to date with the file.
  ///
  /// - Returns: whether every page had to be read.
  @discardableResult
  public func recoverMap() throws -> Bool {
    let recovery = PageMapRecovery(map: map, index: injector.index, log: injector.log)
    var scanned = true
    let isCurrent = isTrusted && map.live.txid == tracker.position.txid
    if isTrusted, !isForeign, let header = injector.index.header(),
      let place = recovery.connectingPlace(header),
      (try? recovery.replay(from: place, numbering: .stamped)) != nil,
      map.live.txid == tracker.position.txid
    {
      scanned = false
    } else {
      let differing = try scanPages()
      if isCurrent { unexplainedPages = differing }
    }
    var position = tracker.position
    position.checksum = map.live.checksum
    tracker.advance(to: position, at: injector.place)
    if injector.place.salts == Salts(first: 0, second: 0), position.txid > .zero {
      // A WAL without a single frame has no salts, and so could not prove later what came after it:
      // write one frame.
      try injector.publish(pageCount: map.live.pageCount, position: position)
      tracker.advance(to: position, at: injector.place)
      scanned = true
    }
    // From now on the map is ahead of what is durable, until it is closed.
    if scanned || map.base.isClean || !map.isOfThisBoot { try map.saveBase(presentBase()) }
    return scanned
  }

  /// Reads every page and corrects the map where it is wrong. Returns how many entries were.
  public func scanPages() throws -> Int {
    let recovery = PageMapRecovery(map: map, index: injector.index, log: injector.log)
    guard let header = injector.index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    let txid = tracker.position.txid
    let scan = try recovery.scan(header, pageCount: try pageCount(header))
    // What waits for its upstream is found out by it.
    if scan.differing > 0, !awaitsUpstream { try noteDoubt() }
    try recovery.apply(scan, txid: txid, place: header.place)
    try map.update { $0.live.txid = txid }
    var position = tracker.position
    position.checksum = map.live.checksum
    tracker.advance(to: position, at: injector.place)
    return scan.differing
  }

  /// Notes what the bytes of some pages really are, before all pages are compared.
  public func correctMap(_ wrong: [WrongPage]) throws {
    if !wrong.isEmpty { try noteDoubt() }
    try map.update { editor in
      for page in wrong {
        try editor.set(page.pgno, PageMapEntry(txid: page.entry.txid, checksum: page.found))
      }
    }
    let wasUnbalanced = try map.balance()
    guard !wrong.isEmpty || wasUnbalanced else { return }
    // Until the comparison is through, this node must not look as if it agreed.
    var position = tracker.position
    position.checksum = map.live.checksum
    tracker.advance(to: position, at: injector.place)
  }

  private func pageCount(_ header: WALIndexHeader) throws -> UInt32 {
    if header.frameCount > 0 { return header.pageCount }
    return UInt32(clamping: (Disk.size(path) ?? 0) / pageSize.bytes)
  }

  /// Notes the whole identity of the database, once the upstream has told it.
  public func adopt(_ database: DatabaseID) throws {
    guard map.identity.database != database else { return }
    try map.adopt(PageMapIdentity(database: database, pageSize: pageSize))
    var position = tracker.position
    position.database = database
    tracker.advance(to: position, at: injector.place)
  }

  /// Notes the history that the upstream told, so that no older one is followed after a restart.
  public func adopt(_ history: EpochHistory) throws {
    guard map.base.history != history else { return }
    var base = map.base
    base.history = history
    try map.saveBase(base)
  }

  /// Notes, before the map says of damaged pages that they are right, that they may not be.
  private func noteDoubt() throws {
    isDoubtful = true
    guard !map.base.isDoubtful else { return }
    var base = map.base
    base.isDoubtful = true
    try map.saveBase(base)
  }

  /// The file holds what the upstream has, whoever wrote to it before.
  public func healed() throws {
    if map.base.isDoubtful {
      var base = map.base
      base.isDoubtful = false
      try map.saveBase(base)
    }
    isForeign = false
    isDoubtful = false
    unexplainedPages = 0
    served = .zero
  }

  // MARK: Checkpoints

  /// What the map must hold durably before the WAL may be restarted at the present place.
  private func presentBase(isClean: Bool = false) -> PageMapBase {
    var base = map.base
    let live = map.live
    base.txid = live.txid
    base.checksum = live.checksum
    base.pageCount = live.pageCount
    base.place = injector.place
    base.history = tracker.epochs
    base.isClean = isClean
    return base
  }

  /// Notes durably where this replica stands, after it has changed to another history.
  public func noteHistory() throws {
    let epoch = tracker.position.epoch
    guard map.base.history.current != epoch || map.base.txid > map.live.txid else { return }
    try map.saveBase(presentBase())
  }

  /// Makes everything durable at an orderly stop, so that the next start may trust it.
  public func close() throws {
    injector.abandonBatch()
    try injector.log.file.sync(.syncLog)
    try map.saveBase(presentBase(isClean: true))
  }

  /// Copies what is in the WAL into the file, beside the applier; on one thread, and never while
  /// `restartLog` runs.
  ///
  /// - Returns: nil while the checkpoint of another program runs.
  public func copyLog() throws -> CheckpointOutcome? {
    guard copier.takeLock(milliseconds: Self.lockMilliseconds) else { return nil }
    return try copier.copy { _, _ in }
  }
  private static let lockMilliseconds = 1000

  /// Copies the rest of the WAL into the file and starts it anew, waiting up to
  /// `waitingMilliseconds` for those who read from it. Nothing is applied meanwhile, so new readers
  /// take the file alone, and short ones never outlast the wait. Call it after `copyLog` did most
  /// of the work.
  ///
  /// - Parameter fileFramesMax: a -wal file longer than this is cut.
  /// - Returns: false when a reader is in the way; try again later.
  public func restartLog(fileFramesMax: UInt32, waitingMilliseconds: Int = 0) throws -> Bool {
    guard injector.frameCount > 0, !injector.isBatchOpen, copier.takeLock(milliseconds: 0) else {
      return false
    }
    let isFree = try copier.poll(milliseconds: waitingMilliseconds) {
      try copier.copy { _, _ in }.isComplete && copier.isUnread
    }
    guard isFree else { return false }
    if map.base.place != injector.place { try map.saveBase(presentBase()) }
    return try injector.restartLog(position: tracker.position, fileFramesMax: fileFramesMax)
  }
}
