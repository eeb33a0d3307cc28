// What a node sends to one follower next. The follower either streams, one transaction after the
// other, or catches up in rounds: all pages that it lacks; those that changed meanwhile; … until a
// round is small enough to be read from a single snapshot. That last round is consistent, and
// streaming goes on behind it. No round needs a long read transaction, and no follower, however
// slow, costs memory: it has only a place in what everybody shares.

/// Which pages a round of catch-up sends.
public enum PageSelection: Equatable, Sendable {
  /// Those that changed after a transaction.
  case changed(since: TXID)
  /// Those whose checksum differs from the follower's.
  case differing
}

/// The state of one follower, on the side of the node that serves it.
public struct ShipSender: Sendable {
  private enum State: Equatable {
    /// The follower is about to send its checksums.
    case awaitingChecksums
    case streaming(next: TXID)
    /// Between rounds: the pages after `since`, or those that differ, are to be sent.
    case planning(PageSelection)
    case sending(Round)
  }

  private struct Round: Equatable {
    var selection: PageSelection
    /// Where the node stood as the round began: the next round sends what changed since.
    var began: TXID
    /// The last page that was looked at.
    var cursor: UInt32
    /// Read from one snapshot: the follower can publish at its end.
    var isConsistent: Bool
  }

  /// What to do next. The adapter performs it, and then tells the sender by the method that is
  /// named.
  public enum Action: Equatable, Sendable {
    /// Nothing now: ask again when something has changed.
    case wait
    /// Send this transaction from the shared ring; `transactionSent()`.
    case sendTransaction(TXID)
    /// Announce a catch-up and count the pages that the selection has; `planned(pages:)`.
    case plan(PageSelection, isFirst: Bool)
    /// Read and send some pages after `after`, from any snapshot of now or later;
    /// `pagesSent(through:)`.
    case sendPages(PageSelection, after: UInt32)
    /// Read all pages of the selection from one snapshot and send them with the end of the round;
    /// `roundSent(at:)`.
    case sendConsistentRound(PageSelection)
  }

  private var state: State
  private var rounds = 0
  /// Transactions or pages are being read or written: one action at a time.
  private var isBusy = false
  /// Pages that fit into a round read from one snapshot.
  private let consistentPagesMax: Int
  /// After so many rounds the next one is consistent, however many pages it has: the primary
  /// outruns the link.
  private static let roundsMax = 8

  /// - Parameter consistentPagesMax: how many pages may be read in one snapshot.
  public init(plan: ShipWelcome.Plan, followerAt txid: TXID, consistentPagesMax: Int) {
    self.consistentPagesMax = consistentPagesMax
    state =
      switch plan {
      case .follow: .streaming(next: txid.next)
      case .copy: .planning(.changed(since: .zero))
      case .compare: .awaitingChecksums
      }
  }

  public var isStreaming: Bool {
    if case .streaming = state { true } else { false }
  }

  /// A word for status.
  public var stateName: String {
    switch state {
    case .awaitingChecksums: "comparing"
    case .streaming: "streaming"
    case .planning, .sending: "catching up"
    }
  }

  /// What to do now.
  ///
  /// - Parameters:
  ///   - head: the last transaction of this node.
  ///   - ringFirst: the first transaction that the ring still holds; nil when it is empty.
  public mutating func next(head: TXID, ringFirst: TXID?) -> Action {
    guard !isBusy else { return .wait }
    switch state {
    case .awaitingChecksums:
      return .wait
    case .streaming(let next):
      guard next <= head else { return .wait }
      isBusy = true
      if let ringFirst, next >= ringFirst { return .sendTransaction(next) }
      let selection = PageSelection.changed(since: TXID(next.rawValue - 1))
      state = .planning(selection)
      rounds = 0
      return .plan(selection, isFirst: true)
    case .planning(let selection):
      isBusy = true
      return .plan(selection, isFirst: rounds == 0)
    case .sending(let round):
      isBusy = true
      if round.isConsistent { return .sendConsistentRound(round.selection) }
      return .sendPages(round.selection, after: round.cursor)
    }
  }

  public mutating func transactionSent() {
    guard case .streaming(let next) = state else { preconditionFailure("not streaming") }
    isBusy = false
    state = .streaming(next: next.next)
  }

  /// The ring lost the transaction between the question and the answer.
  public mutating func transactionGone() {
    guard case .streaming(let next) = state else { preconditionFailure("not streaming") }
    isBusy = false
    rounds = 0
    state = .planning(.changed(since: TXID(next.rawValue - 1)))
  }

  /// - Parameters:
  ///   - pages: how many pages the selection has now.
  ///   - head: where the node stood before they were counted.
  public mutating func planned(pages: Int, head: TXID) {
    guard case .planning(let selection) = state else { preconditionFailure("not planning") }
    isBusy = false
    rounds += 1
    let isConsistent = pages <= consistentPagesMax || rounds > Self.roundsMax
    state = .sending(
      Round(selection: selection, began: head, cursor: 0, isConsistent: isConsistent))
  }

  /// - Parameter cursor: the last page that was looked at; nil at the end of the database.
  public mutating func pagesSent(through cursor: UInt32?) {
    guard case .sending(var round) = state, !round.isConsistent else {
      preconditionFailure("no round is being sent in parts")
    }
    isBusy = false
    if let cursor {
      round.cursor = cursor
      state = .sending(round)
    } else {
      state = .planning(.changed(since: round.began))
    }
  }

  /// A consistent round was sent: the follower will stand at `txid`.
  public mutating func roundSent(at txid: TXID) {
    guard case .sending = state else { preconditionFailure("no round is being sent") }
    isBusy = false
    rounds = 0
    state = .streaming(next: txid.next)
  }

  /// An action could not be performed now; it will be asked for again.
  public mutating func failed() { isBusy = false }

  /// All checksums of the follower have arrived.
  public mutating func checksumsReceived() throws(ShipProtocolError) {
    guard state == .awaitingChecksums else {
      throw .unexpected("checksums that were not asked for")
    }
    rounds = 0
    state = .planning(.differing)
  }

  /// The follower's pages do not add up: it will send its checksums. An action under way is to be
  /// reported as usual.
  public mutating func resynchronize() {
    isBusy = false
    state = .awaitingChecksums
  }
}
