// Brings a page map up to date with its database after a restart: from the frames of the WAL where
// they connect to what the map last made durable, else by comparing every page.

import WALShip

/// What a restart found out about the history of a database.
public enum Continuity: Equatable, Sendable {
  /// The WAL leads from the map's last durable state to the present one.
  case proven
  /// Every page was compared; so many differ and now count as one transaction.
  case scanned(differing: Int)
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

  /// Replays the WAL from the base on into the map.
  func replay(from place: LogPlace, numbering: WALCapture.Numbering) throws -> WALCapture {
    let base = map.base
    try resetLive(txid: base.txid, pageCount: base.pageCount, place: place)
    let capture = WALCapture(
      index: index, log: log, map: map, place: place, numbering: numbering)
    capture.encodes = false
    _ = try capture.capture()
    capture.encodes = true
    return capture
  }

  /// Takes the entries as they are; what they add up to is computed anew.
  private func resetLive(txid: TXID, pageCount: UInt32, place: LogPlace) throws {
    try map.update { editor in
      editor.clear(beyond: pageCount)
      editor.live.pageCount = pageCount
      editor.live.txid = txid
      editor.live.place = place
    }
    let checksum = map.checksumOfEntries(pageCount: pageCount)
    try map.update { $0.live.checksum = checksum }
  }

  /// Compares every page with the map. Differing pages get the number `txid`. The caller keeps
  /// writers out.
  ///
  /// - Returns: how many pages differ.
  func scan(
    _ header: WALIndexHeader, pageCount: UInt32, txid: TXID, progress: ((UInt32) -> Void)? = nil
  ) throws -> Int {
    let pages = PageReader(index: index, log: log, pageSize: map.identity.pageSize.bytes)
    let page = PageMemory(bytes: map.identity.pageSize.bytes)
    let lockPage = map.identity.pageSize.lockPage
    try resetLive(txid: map.live.txid, pageCount: map.live.pageCount, place: header.place)
    var differing = 0
    var next: UInt32 = 1
    while next <= pageCount {
      let end = min(pageCount, next + 1023)
      try map.update { editor in
        for number in next...end where Pgno(number) != lockPage {
          let pgno = Pgno(number)
          try pages.read(pgno, through: header.frameCount, into: page.bytes)
          let checksum = pageChecksum(page.readOnly, pgno: pgno)
          if editor.entry(pgno).checksum != checksum {
            try editor.set(pgno, PageMapEntry(txid: txid, checksum: checksum))
            differing += 1
          }
        }
      }
      progress?(end)
      next = end + 1
    }
    try map.update { editor in
      if editor.live.pageCount > pageCount { differing += Int(editor.live.pageCount - pageCount) }
      try editor.resize(to: pageCount)
      if differing > 0 { editor.live.txid = txid }
    }
    return differing
  }
}
