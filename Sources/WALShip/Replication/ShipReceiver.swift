// What a follower may apply: only the transaction that comes next in its own history, and a
// catch-up only as a whole.

/// The state of a follower towards the node that serves it.
public struct ShipReceiver: Sendable {
  public enum State: Equatable, Sendable {
    /// After the transaction `txid`, waiting for the next one.
    case streaming(TXID)
    /// Pages arrive; nothing is visible before a consistent round ends. `from` is what readers see
    /// meanwhile.
    case catchingUp(from: TXID)
    /// The pages did not add up; a comparison was asked for.
    case resynchronizing(from: TXID)
  }

  public enum Decision: Equatable, Sendable {
    /// Decode the pages against the present ones, check the checksum, publish.
    case apply
    /// It is a part of what the follower has already.
    case ignore
    /// Ask for a comparison; the reason is for the log.
    case resynchronize(String)
  }

  public private(set) var state: State

  public init(at txid: TXID) { state = .streaming(txid) }

  /// A live transaction has arrived.
  public mutating func received(_ txid: TXID) -> Decision {
    switch state {
    case .resynchronizing:
      return .ignore
    case .catchingUp:
      return .resynchronize("transaction \(txid) arrived in the middle of a catch-up")
    case .streaming(let applied) where txid <= applied:
      return .ignore
    case .streaming(let applied) where txid == applied.next:
      return .apply
    case .streaming(let applied):
      return .resynchronize("transaction \(txid) arrived after \(applied)")
    }
  }

  /// The transaction was published.
  public mutating func applied(_ txid: TXID) { state = .streaming(txid) }

  /// A catch-up begins. Returns false when it is one that was overtaken by a wish to be compared.
  public mutating func catchUpBegan(isComparison: Bool) -> Bool {
    switch state {
    case .streaming(let txid): state = .catchingUp(from: txid)
    case .catchingUp: break
    case .resynchronizing(let txid):
      guard isComparison else { return false }
      state = .catchingUp(from: txid)
    }
    return true
  }

  /// Whether pages are to be taken.
  public var acceptsPages: Bool {
    if case .catchingUp = state { true } else { false }
  }

  /// A round ended; only a consistent one ends the catch-up.
  public mutating func roundEnded(at txid: TXID, isConsistent: Bool) {
    guard case .catchingUp = state, isConsistent else { return }
    state = .streaming(txid)
  }

  /// The checksum of the database was not what the sender said.
  public mutating func foundMismatch() {
    switch state {
    case .streaming(let txid), .catchingUp(let txid), .resynchronizing(let txid):
      state = .resynchronizing(from: txid)
    }
  }
}
