// What happened to a primary's database since it was last open here: nothing, commits of other
// programs, or something that makes its history another one. A start goes on in the old epoch only
// with proof. docs/GUARANTEES.md, the fault matrix

import WALShip

/// The recovery of a primary, run once on the thread that owns the database, with the checkpoint
/// lock held.
struct PrimaryRecovery {
  /// Where the page map came from.
  enum Origin: Equatable {
    /// It lay beside the database.
    case found
    /// It was lost or damaged, and begins empty for the database that `DatabaseIdentity` names.
    case rebuilt
    /// The database was not known before.
    case new
  }

  let pages: PageMapRecovery
  let connection: Connection
  let checkpointer: Checkpointer
  let path: String
  let origin: Origin

  private var map: PageMapFile { pages.map }

  /// Brings the map up to date.
  ///
  /// - Returns: the capture that goes on from there, and what happened, for people.
  /// - Throws: `PrimaryDatabase.Failure.damagedPages` when pages changed although the WAL proves that
  ///   no program wrote them; nothing was changed then. Where the WAL is gone, a damaged page cannot
  ///   be told from a changed one.
  func run() throws -> (capture: WALCapture, notes: [String]) {
    guard let header = pages.index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    let isSameFile = map.base.fileNumber == Disk.fileNumber(path)
    if origin == .found, isSameFile, let place = pages.connectingPlace(header) {
      return try follow(place, header)
    }
    return try compare(isSameFile: isSameFile)
  }

  // MARK: The WAL leads on from what is known

  private func follow(
    _ place: LogPlace, _ header: WALIndexHeader
  ) throws -> (capture: WALCapture, notes: [String]) {
    try requireWholeFile(header)
    let before = map.live
    let trustsLive = map.isOfThisBoot
    if trustsLive { try pages.takeBackUnfinished() }
    let replay = try pages.replay(from: place, numbering: .counting)
    let capture = replay.capture
    let now = map.live
    // Another program can have written to the former WAL, and begun this one, while nobody looked.
    if place.salts != map.base.place.salts, place.salts != before.place.salts {
      let scan = try pages.scan(header, pageCount: now.pageCount)
      if scan.differing > 0 {
        return try leave(scan, capture, known: max(before.txid, now.txid))
      }
    }
    if trustsLive, let found = replay.sums[before.txid], found != before.checksum {
      // Commits that the map had not seen changed the sum as they should, and nothing else.
      let expected = now.checksum.rawValue ^ found.rawValue ^ before.checksum.rawValue
      let mended = try mend(header, expected: DatabaseChecksum(expected))
      let what = mended == 1 ? "entry" : "entries"
      return (capture, mended > 0 ? ["damaged page map: \(mended) \(what) corrected"] : [])
    }
    // What was captured was durable, so its number proves that it was there, in any run of the
    // system.
    guard now.txid < before.txid else { return (capture, []) }
    // The WAL ends before what was seen of it: its end was damaged, or it is an older copy. The map
    // speaks of pages that are gone.
    let scan = try pages.scan(header, pageCount: now.pageCount)
    var history = map.base.history
    history.fork(after: now.txid, above: map.base.superseding)
    try begin(history)
    try pages.apply(scan, txid: now.txid, place: now.place)
    try save(history, place: capture.place)
    capture.epoch = history.current
    let lost = "transactions \(now.txid.next) to \(before.txid)"
    return (
      capture, ["the WAL ends at transaction \(now.txid): \(lost) are lost, and a new epoch begins"]
    )
  }

  /// Pages changed and nobody can say with which transactions.
  private func leave(
    _ scan: PageScan, _ capture: WALCapture, known: TXID
  ) throws -> (capture: WALCapture, notes: [String]) {
    var history = map.base.history
    history.fork(after: .zero, above: map.base.superseding)
    try begin(history)
    try pages.apply(scan, txid: known.next, place: capture.place)
    try save(history, place: capture.place)
    capture.epoch = history.current
    let count = scan.differing
    return (capture, ["\(count) pages changed in a WAL that is gone: a new epoch begins"])
  }

  /// Pages beyond the end of the file must be in the WAL.
  private func requireWholeFile(_ header: WALIndexHeader) throws {
    guard header.frameCount > 0 else { return }
    let inFile = UInt32(clamping: (Disk.size(path) ?? 0) / map.identity.pageSize.bytes)
    guard inFile < header.pageCount else { return }
    var missing: [Pgno] = []
    for number in inFile + 1...header.pageCount
    where Pgno(number) != map.identity.pageSize.lockPage && missing.count < 8 {
      let frame = try pages.index.frame(of: Pgno(number), through: header.frameCount)
      if frame == nil { missing.append(Pgno(number)) }
    }
    guard missing.isEmpty else { throw PrimaryDatabase.Failure.damagedPages(path, missing) }
  }

  /// The entries do not add up although no commit is missing: they were damaged, or pages were.
  private func mend(_ header: WALIndexHeader, expected: DatabaseChecksum) throws -> Int {
    let scan = try pages.scan(header, pageCount: map.live.pageCount)
    var sum = map.live.checksum
    for page in scan.wrong { sum.toggle(page.entry.checksum ^ page.found) }
    // All pages are right: then it was the sum that a damaged entry had spoiled.
    guard sum == expected || scan.wrong.isEmpty else {
      throw PrimaryDatabase.Failure.damagedPages(path, scan.wrong.prefix(8).map(\.pgno))
    }
    try map.update { editor in
      for page in scan.wrong {
        try editor.set(page.pgno, PageMapEntry(txid: page.entry.txid, checksum: page.found))
      }
    }
    return scan.wrong.count
  }

  // MARK: All pages are compared

  private func compare(isSameFile: Bool) throws -> (capture: WALCapture, notes: [String]) {
    try connection.execute("BEGIN IMMEDIATE")
    defer { if !connection.isAutocommit { try? connection.execute("COMMIT") } }
    guard let header = pages.index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    let count = UInt32(clamping: try connection.queryInteger("PRAGMA page_count") ?? 0)
    let scan = try pages.scan(header, pageCount: count)
    let known = newestKnown(scan)
    var history = map.base.history
    let notes = try judge(scan, known: known, isSameFile: isSameFile, &history)
    try begin(history)
    try pages.apply(scan, txid: known.next, place: header.place)
    if scan.differing == 0 { try map.update { $0.live.txid = known } }
    let capture = WALCapture(
      index: pages.index, log: pages.log, map: map, place: header.place, numbering: .counting)
    try save(history, place: header.place)
    capture.epoch = history.current
    try connection.execute("COMMIT")
    if header.salts == Salts(first: 0, second: 0) {
      try beginLog()
      _ = try capture.capture()
      try save(history, place: capture.place)
    }
    return (capture, notes)
  }

  /// The last transaction that was captured: of entries and of the record where they stand, either can
  /// have reached the disk alone before a loss of power.
  private func newestKnown(_ scan: PageScan) -> TXID {
    let noted = max(map.live.txid, map.base.txid)
    // The number in a damaged entry can be any, and must not become that of a commit to come.
    guard scan.newestKept > noted, scan.newestKept.rawValue - noted.rawValue <= UInt32.max else {
      return noted
    }
    return scan.newestKept
  }

  /// Decides whether the pages are the known ones, later ones, or those of another history.
  private func judge(
    _ scan: PageScan, known: TXID, isSameFile: Bool, _ history: inout EpochHistory
  ) throws -> [String] {
    switch origin {
    case .new: return scan.differing > 0 ? ["adopted the database: \(scan.pageCount) pages"] : []
    case .rebuilt:
      history.fork(after: .zero, above: map.base.superseding)
      return ["the page map was lost: it is made anew from the pages, and a new epoch begins"]
    case .found: break
    }
    guard scan.differing > 0 else { return [] }
    if try continues(scan, known: known, isSameFile: isSameFile) {
      return [
        "\(scan.differing) pages changed while no primary ran: captured as one transaction"
      ]
    }
    // Which transactions an older copy has cannot be told from its pages: a value that was set and
    // taken back makes an older page again. So all of the former epoch count as lost.
    history.fork(after: .zero, above: map.base.superseding)
    return ["\(scan.differing) pages are of another history: a new epoch begins"]
  }

  /// Whether the pages come after the last known transaction: one of its pages is still there, in
  /// the same file, whose change counter has grown.
  ///
  /// The page alone proves nothing: a value that was set and taken back makes an older page again.
  /// An older copy never has a higher counter; but a commit raises it only with page 1, so later
  /// pages can go unproven, and then begin a new epoch.
  private func continues(_ scan: PageScan, known: TXID, isSameFile: Bool) throws -> Bool {
    let counter = try checkpointer.fileChangeCounter()
    return isSameFile && counter > map.base.changeCounter && scan.newestKept == known
  }

  /// A WAL without a single frame has no salts, and so could not prove later what came after it:
  /// write one frame.
  private func beginLog() throws {
    let version = try connection.queryInteger("PRAGMA user_version") ?? 0
    try connection.execute("PRAGMA user_version=\(version)")
  }

  /// Notes a new epoch before the map agrees with the pages: a start that was cut off in between
  /// would find nothing that differs, and go on in the old one.
  private func begin(_ history: EpochHistory) throws {
    guard map.base.history != history else { return }
    var base = map.base
    base.history = history
    try map.saveBase(base)
  }

  private func save(_ history: EpochHistory, place: LogPlace) throws {
    var base = map.base
    let live = map.live
    base.history = history
    base.isClean = false
    base.txid = live.txid
    base.checksum = live.checksum
    base.pageCount = live.pageCount
    base.place = place
    base.changeCounter = try checkpointer.fileChangeCounter()
    base.fileNumber = Disk.fileNumber(path)
    try map.saveBase(base)
  }
}
