// Pages for copies of a part of the database. Such a copy gets more pages later, always as of the
// state with which it began, and pulls what changed since beside that.
//
// Former states cannot be had. So a page is sent as long as it has not changed since the copy began;
// one that the client has pulled since is left out, for it would be the older one; and while there is
// one that the client can neither have nor get, nothing is sent.
// Source: docs/SYNC.md

import Store
import WALShip

extension SyncSource {
  /// Those of a set that a database has.
  func pages(_ set: PageSet, through last: UInt32) -> [Pgno] {
    set.numbers(below: last).map { Pgno($0 + 1) }.filter { $0 != Self.lockPage }
  }

  /// Those of a set that are now as they were when a copy began.
  ///
  /// - Throws: `Failure.changed` when the client must pull first.
  func pages(
    _ set: PageSet, asOf beginning: SyncRevision, _ held: SyncCopies.Held,
    in snapshot: SnapshotReader.Snapshot
  ) throws -> [Pgno] {
    let history = tracker.epochs
    guard beginning.isPart(of: snapshot.position, history),
      held.sent.isPart(of: snapshot.position, history)
    else { throw Failure.changed }
    // Pages behind the end of what the client has are none of its pages.
    let (shown, sent) = (held.shown.pageCount, held.sent.pageCount)
    guard !set.hasNumber(from: snapshot.pageCount, below: sent) else { throw Failure.changed }
    let wanted = pages(set, through: min(snapshot.pageCount, max(shown, sent)))
    // What is left out was mostly asked for beside the page that is needed.
    return try wanted.filter { pgno in
      let entry = map.entry(pgno)
      let isKnown = entry != .absent
      if isKnown, entry.txid <= beginning.txid { return true }
      guard isKnown && entry.txid <= held.sent.txid || pgno.index >= sent else {
        throw Failure.changed
      }
      return false
    }
  }
}
