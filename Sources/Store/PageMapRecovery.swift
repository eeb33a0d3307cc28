// Brings a page map up to date with its database after a restart: from the frames of the WAL where
// they connect to what the map last made durable, else by comparing every page.

import WALShip

/// What a comparison of all pages with the map has found.
struct PageScan: Sendable {
  var pageCount: UInt32
  var wrong: [WrongPage] = []
  /// The latest transaction of which a page is still there.
  var newestKept = TXID.zero
  /// Pages that the map has, beyond the end of the file.
  var cutOff: UInt32 = 0

  var differing: Int { wrong.count + Int(cutOff) }
}

/// The steps of recovery; run once, on the thread that owns the database.
struct PageMapRecovery {
  let map: PageMapFile
  let index: WALIndex
  let log: LogFile

  /// The place from which the WAL leads on from the map's base, if it does.
  func connectingPlace(_ header: WALIndexHeader) -> LogPlace? {
    let base = map.base.place
    // Without a WAL then or now, nobody can say what happened in between.
    guard base.salts != Salts(first: 0, second: 0), header.salts != Salts(first: 0, second: 0)
    else {
      return nil
    }
    if header.salts == base.salts {
      return header.frameCount >= base.frame ? base : nil
    }
    // Only a WAL that was fully copied, and whose base was saved, is ever restarted.
    return header.salts.first == base.salts.first &+ 1
      ? LogPlace(salts: header.salts, frame: 0) : nil
  }

  /// What a replay found.
  struct Replay {
    var capture: WALCapture
    /// What the entries added up to after the base, and after each transaction.
    var sums: [TXID: DatabaseChecksum]
  }

  /// Replays the WAL from the base on into the map.
  func replay(from place: LogPlace, numbering: WALCapture.Numbering) throws -> Replay {
    let base = map.base
    try resetLive(txid: base.txid, pageCount: base.pageCount, place: place)
    var sums = [base.txid: map.live.checksum]
    let capture = WALCapture(
      index: index, log: log, map: map, place: place, numbering: numbering)
    capture.encodes = false
    for transaction in try capture.capture() {
      sums[transaction.position.txid] = transaction.position.checksum
    }
    capture.encodes = true
    return Replay(capture: capture, sums: sums)
  }

  /// Takes back what a capture had noted when the process ended within it, as far as the file still
  /// has the pages from before: only then do the entries add up to what the live record says.
  /// A replay notes it again.
  func takeBackUnfinished() throws {
    let live = map.live
    let page = PageMemory(bytes: map.identity.pageSize.bytes)
    let pages = PageReader(index: index, log: log, pageSize: map.identity.pageSize.bytes)
    var cursor: UInt32? = 0
    while let after = cursor {
      let found = map.changedPages(
        since: live.txid, after: after, through: live.pageCount, limit: 1024)
      cursor = found.cursor
      for pgno in found.pages {
        try pages.read(pgno, through: 0, into: page.bytes)
        let former = PageMapEntry(
          txid: map.base.txid, checksum: pageChecksum(page.readOnly, pgno: pgno))
        try map.update { $0.correct(pgno, to: former) }
      }
    }
  }

  /// Takes the entries as they are; what they add up to is computed anew.
  private func resetLive(txid: TXID, pageCount: UInt32, place: LogPlace) throws {
    try map.update { editor in
      editor.clear(beyond: pageCount)
      editor.live.pageCount = pageCount
      editor.live.txid = txid
      editor.live.place = place
      editor.balance()
    }
  }

  /// Compares every page with the map, and changes nothing. The caller keeps writers out.
  func scan(_ header: WALIndexHeader, pageCount: UInt32) throws -> PageScan {
    let pages = PageReader(index: index, log: log, pageSize: map.identity.pageSize.bytes)
    let page = PageMemory(bytes: map.identity.pageSize.bytes)
    let lockPage = map.identity.pageSize.lockPage
    var scan = PageScan(pageCount: pageCount)
    for number in 0..<pageCount where Pgno(number + 1) != lockPage {
      let pgno = Pgno(number + 1)
      try pages.read(pgno, through: header.frameCount, into: page.bytes)
      let entry = map.entry(pgno)
      let found = pageChecksum(page.readOnly, pgno: pgno)
      if entry.checksum == found, entry.txid != .zero {
        scan.newestKept = max(scan.newestKept, entry.txid)
      } else {
        scan.wrong.append(WrongPage(pgno: pgno, entry: entry, found: found))
      }
    }
    let known = map.live.pageCount
    if known > pageCount { scan.cutOff = known - pageCount }
    return scan
  }

  /// Lets the map say what a scan has found. Differing pages get the number `txid`.
  func apply(_ scan: PageScan, txid: TXID, place: LogPlace) throws {
    try resetLive(txid: map.live.txid, pageCount: map.live.pageCount, place: place)
    try map.update { editor in
      for page in scan.wrong {
        try editor.set(page.pgno, PageMapEntry(txid: txid, checksum: page.found))
      }
      try editor.resize(to: scan.pageCount)
      if scan.differing > 0 { editor.live.txid = txid }
    }
  }
}
