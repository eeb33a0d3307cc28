// Changes of a page map: entries, and with them what they add up to.

import WALShip

extension PageMapFile {
  /// Changes entries while the lock is held.
  public struct Editor {
    let map: PageMapFile
    public var live: PageMapLive
    /// The last page that was set, which may lie beyond the end of the database until `resize`.
    private var highest: UInt32 = 0

    init(map: PageMapFile, live: PageMapLive) {
      self.map = map
      self.live = live
    }

    /// The last page that can have an entry.
    private var last: UInt32 { max(live.pageCount, highest) }

    public func entry(_ pgno: Pgno) -> PageMapEntry {
      pgno.rawValue <= last && pgno.index < map.capacity ? map.load(pgno) : .absent
    }

    /// Notes a new version of a page and brings the checksum of the database up to date.
    public mutating func set(_ pgno: Pgno, _ entry: PageMapEntry) throws(DiskError) {
      if pgno.index >= map.capacity { try map.grow(to: Int(pgno.rawValue)) }
      extend(to: pgno.rawValue)
      let old = map.load(pgno)
      live.checksum.toggle(old.checksum)
      live.checksum.toggle(entry.checksum)
      map.store(pgno, entry)
    }

    /// Takes in entries beyond the end. Whatever is there now stands for nothing.
    private mutating func extend(to pageCount: UInt32) {
      for number in last..<max(last, pageCount) where Int(number) < map.capacity {
        map.store(Pgno(number + 1), .absent)
      }
      highest = max(highest, pageCount)
    }

    /// Changes an entry alone; the checksum of the database is the caller's to keep.
    public func correct(_ pgno: Pgno, to entry: PageMapEntry) { map.store(pgno, entry) }

    /// Forgets entries beyond the end of the database, which a cut-off transaction may have left
    /// there.
    mutating func clear(beyond pageCount: UInt32) {
      guard Int(pageCount) < map.capacity else { return }
      for index in Int(pageCount)..<map.capacity { map.store(Pgno(UInt32(index + 1)), .absent) }
    }

    /// Computes anew what the entries add up to.
    mutating func balance() {
      live.checksum = map.sumOfEntries(pageCount: live.pageCount, from: .empty)
    }

    /// Lets no entry name a later transaction than the last one: after a history was left.
    public func clamp() {
      for index in 0..<min(Int(live.pageCount), map.capacity) {
        let pgno = Pgno(UInt32(index + 1))
        let entry = map.load(pgno)
        if entry.txid > live.txid {
          map.store(pgno, PageMapEntry(txid: live.txid, checksum: entry.checksum))
        }
      }
    }

    /// Sets the number of pages; the entries of pages that are gone are cleared.
    public mutating func resize(to pageCount: UInt32) throws(DiskError) {
      let last = last
      if pageCount < last {
        for number in pageCount + 1...last { try set(Pgno(number), .absent) }
      }
      extend(to: pageCount)
      live.pageCount = pageCount
    }
  }
}
