// What clients of `/pull-updates` remember of a state, and what is remembered of those that have only
// a part of its pages.
// Source: docs/SYNC.md

import DequeModule
import Synchronization
import WALShip

/// A state as text: `database.epoch.txid`, all hexadecimal; of the copy of a part also
/// `.copy.pages.beginning`.
struct SyncRevision: Equatable {
  var database: UInt32
  var epoch: Epoch
  var txid: TXID
  /// Tells copies of a part from each other; 0 for a whole copy.
  var copy: UInt64 = 0
  /// How many pages the database has; 0 for a whole copy.
  var pageCount: UInt32 = 0
  /// The transaction with which a copy of a part began.
  var beginning = TXID.zero

  init(_ position: Position) {
    database = position.database.short
    epoch = position.epoch
    txid = position.txid
  }

  /// A later state of the same copy.
  func later(_ position: Position, pageCount: UInt32) -> SyncRevision {
    var later = SyncRevision(position)
    guard copy != 0 else { return later }
    later.copy = copy
    later.pageCount = pageCount
    later.beginning = beginning
    return later
  }

  /// The first state of the copy of a part.
  static func beginning(_ position: Position, pageCount: UInt32) -> SyncRevision {
    var revision = SyncRevision(position)
    revision.copy = UInt64.random(in: 1...UInt64.max)
    revision.pageCount = pageCount
    revision.beginning = position.txid
    return revision
  }

  /// - Returns: nil when it is none of ours.
  init?(_ text: String) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3 || parts.count == 6, let database = UInt32(parts[0], radix: 16),
      let epoch = UInt32(parts[1], radix: 16), let txid = UInt64(parts[2], radix: 16)
    else { return nil }
    self.database = database
    self.epoch = Epoch(epoch)
    self.txid = TXID(txid)
    guard parts.count == 6 else { return }
    guard let copy = UInt64(parts[3], radix: 16), let pageCount = UInt32(parts[4], radix: 16),
      let beginning = UInt64(parts[5], radix: 16), copy > 0
    else { return nil }
    self.copy = copy
    self.pageCount = pageCount
    self.beginning = TXID(beginning)
  }

  var text: String {
    var parts = [UInt64(database), UInt64(epoch.rawValue), txid.rawValue]
    if copy != 0 { parts += [copy, UInt64(pageCount), beginning.rawValue] }
    return parts.map { String($0, radix: 16) }.joined(separator: ".")
  }

  /// Whether a state of this node contains it.
  func isPart(of position: Position, _ history: EpochHistory) -> Bool {
    database == position.database.short && txid > .zero && txid <= position.txid
      && history.contains(epoch: epoch, txid: txid)
  }
}

/// What copies of a part hold. Their later requests for pages do not say it: they name the state with
/// which the copy began. It is kept for as long as the process runs, whether the database is open or
/// not. A copy that is not known is sent all that changed since it began: recovery may have told
/// pages as changed later than before.
enum SyncCopies {
  struct Held: Equatable {
    /// The last state that the client has shown.
    var shown: SyncRevision
    /// The last one that it was sent: it has that, too, unless it has failed to take it.
    var sent: SyncRevision
  }

  private struct State {
    var held: [UInt64: Held] = [:]
    var order: Deque<UInt64> = []
  }

  private static let state = Mutex(State())
  private static let countMax = 1 << 16

  /// What a copy that began with a state holds.
  static func held(_ beginning: SyncRevision) -> Held {
    state.withLock { $0.held[beginning.copy] } ?? Held(shown: beginning, sent: beginning)
  }

  /// The transaction after which a client that shows a state needs all changes.
  static func since(_ shown: SyncRevision) -> TXID {
    let isKnown = shown.copy == 0 || state.withLock { $0.held[shown.copy] != nil }
    return isKnown ? shown.txid : min(shown.beginning, shown.txid)
  }

  /// Notes what the client of a known copy shows.
  static func note(shown: SyncRevision) {
    state.withLock { state in
      if state.held[shown.copy] != nil {
        state.held[shown.copy] = Held(shown: shown, sent: shown)
      }
    }
  }

  /// Notes what a client was sent, before it can know that this was all.
  static func note(sent: SyncRevision, after shown: SyncRevision) {
    guard sent.copy != 0 else { return }
    state.withLock { state in
      let known = state.held.updateValue(Held(shown: shown, sent: sent), forKey: sent.copy)
      guard known == nil else { return }
      state.order.append(sent.copy)
      if state.order.count > countMax, let oldest = state.order.popFirst() {
        state.held[oldest] = nil
      }
    }
  }
}
