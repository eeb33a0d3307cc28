// The frames of a generation as they are handed out. The library puts a page that comes twice in one
// commit into one frame of its own WAL: its frames would then have other numbers than here, and it
// would push from the wrong one. So no page is handed out twice, unless it changes while a client is
// in the middle of a list; such a generation comes to its end.
// Source: docs/SYNC.md

import WALShip

extension SyncGenerations.Generation {
  /// Stands for a page that comes again behind: behind the end of every database.
  static func filler(_ frame: Int) -> Pgno { Pgno(0xf000_0000 | UInt32(frame & 0xfff_ffff)) }
  static func isFiller(_ pgno: Pgno) -> Bool { pgno.rawValue >= 0xf000_0000 }

  private static let unfinishedMax = 4096

  /// Frames from `start` on.
  ///
  /// - Returns: nil when there is none.
  mutating func frames(from start: Int, count: Int) -> (pages: [Pgno], isEnd: Bool)? {
    guard start <= pages.count else { return nil }
    let range = start - 1..<min(pages.count, start - 1 + count)
    // The last place of each page.
    var wanted = Set(pages[range])
    var places: Set<Int> = []
    for place in (range.lowerBound..<pages.count).reversed() where !wanted.isEmpty {
      if wanted.remove(pages[place]) != nil { places.insert(place) }
    }
    if let waiting = unfinished.removeValue(forKey: start), waiting > 1 {
      unfinished[start] = waiting - 1
    }
    let isEnd = range.upperBound == pages.count
    if !isEnd { unfinished[range.upperBound + 1, default: 0] += 1 }
    if unfinished.count > Self.unfinishedMax {
      unfinished = [:]
      isUneven = true
    }
    return (range.map { places.contains($0) ? pages[$0] : Self.filler($0 + 1) }, isEnd)
  }

  /// Adds pages at the end.
  mutating func add(_ more: [Pgno]) {
    if !isUneven, !unfinished.isEmpty {
      let added = Set(more)
      isUneven = pages.contains { added.contains($0) }
    }
    pages += more
  }
}
