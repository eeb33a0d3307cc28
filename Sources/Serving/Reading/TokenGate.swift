// Decides whether this node is new enough for a read: by the tokens that the client shows, or by
// the age of what the node knows. A read that must wait holds no reader. The model is in
// docs/GUARANTEES.md, P5.

import NIOCore
import Store
import WALShip

/// What a read must do before it runs.
public enum Admission: Equatable, Sendable {
  /// Run here.
  case here
  /// Run here, and say that the token was not reached.
  case hereStale
  /// Run on the primary.
  case forward
  /// Ask the primary for its position, and then be admitted with its token.
  case askPrimary
  /// Wait for these tokens.
  case wait([Token])
  case failed(RequestError)
}

/// Admits reads. It has no state of its own.
public struct TokenGate: Sendable {
  private let role: NodeRole
  private let tracker: PositionTracker
  private let limits: ServingLimits
  private let health: NodeHealth
  private let contactMilliseconds: @Sendable () -> UInt64?

  init(
    role: NodeRole, tracker: PositionTracker, limits: ServingLimits, health: NodeHealth,
    contactMilliseconds: @escaping @Sendable () -> UInt64?
  ) {
    self.role = role
    self.tracker = tracker
    self.limits = limits
    self.health = health
    self.contactMilliseconds = contactMilliseconds
  }

  private enum Check {
    case reached
    case later
    case refused(RequestError)
  }

  /// Judges a read by its options and by what its session has seen.
  public func admit(_ options: RequestOptions, session: Token?) -> Admission {
    if let refused = refusedAsDamaged { return refused }
    switch options.read {
    case .local: break
    case .primary:
      if role == .replica { return .forward }
    case .latest:
      if role == .replica { return .askPrimary }
    case .bounded(let most):
      let age = contactMilliseconds()
      guard let age, age <= most else {
        let seen = age.map { "\($0) ms ago" } ?? "never"
        return missed(
          options.lagPolicy,
          RequestError(.tokenTimeout, "this node last heard from the primary \(seen)"))
      }
    }
    return admit([options.token, session].compactMap(\.self))
  }

  /// Judges a read by tokens alone.
  public func admit(_ tokens: [Token]) -> Admission {
    if let refused = refusedAsDamaged { return refused }
    var mustWait = false
    for token in tokens {
      switch check(token) {
      case .reached: break
      case .later: mustWait = true
      case .refused(let error): return .failed(error)
      }
    }
    return mustWait ? .wait(tokens) : .here
  }

  /// What is known to be damaged here; nil when nothing is.
  var damage: String? { health.damage }

  /// What is known to be damaged is not served, however old an answer may be.
  private var refusedAsDamaged: Admission? {
    guard let damage = health.damage else { return nil }
    return role == .replica ? .forward : .failed(RequestError(.damaged, damage))
  }

  private func check(_ token: Token) -> Check { Self.check(token, tracker, role) }

  /// Why the primary cannot do what a client asks for that has seen `tokens`; nil when it can.
  ///
  /// - Parameter mustBeReached: the client is to see that state, not only to belong to its history.
  public static func refusal(
    of tokens: [Token], onPrimary tracker: PositionTracker, mustBeReached: Bool
  ) -> RequestError? {
    for token in tokens {
      switch check(token, tracker, .primary) {
      case .reached: break
      case .refused(let error): return error
      case .later where mustBeReached:
        return RequestError(.tokenTimeout, "the primary has not reached the token")
      case .later: break
      }
    }
    return nil
  }

  private static func check(
    _ token: Token, _ tracker: PositionTracker, _ role: NodeRole
  ) -> Check {
    let position = tracker.position
    guard token.database == position.database.short else {
      return .refused(RequestError(.tokenInvalid, "the token belongs to another database"))
    }
    if token.epoch == position.epoch { return token.txid <= position.txid ? .reached : .later }
    if token.epoch > position.epoch {
      // A replica may not have heard of it yet; the primary makes the epochs.
      if role == .replica { return .later }
      return .refused(lostHistory)
    }
    guard tracker.epochs.contains(epoch: token.epoch, txid: token.txid) else {
      return .refused(lostHistory)
    }
    return token.txid <= position.txid ? .reached : .later
  }

  /// Judges again what was seen in epochs before that of a snapshot: the epoch can have begun between
  /// the admission of a read and its snapshot.
  func refusal(of tokens: [Token], before epoch: Epoch) -> RequestError? {
    let earlier = tokens.filter { $0.epoch < epoch }
    guard !earlier.isEmpty else { return nil }
    guard tracker.position.epoch >= epoch else {
      return RequestError(.tokenTimeout, "this node is about to begin another epoch")
    }
    let epochs = tracker.epochs
    let isWhole = earlier.allSatisfy { epochs.contains(epoch: $0.epoch, txid: $0.txid) }
    return isWhole ? nil : Self.lostHistory
  }

  private static let lostHistory = RequestError(
    .tokenEpoch, "the token is of a history that was lost, or that this node does not know")

  // MARK: Waiting

  /// Waits until this node has reached `tokens`, for a limited time.
  ///
  /// - Parameter completion: called once, on `loop` and not before this returns, with something
  ///   else than `wait`; not after the waiting was cancelled.
  /// - Returns: cancels the waiting; to be called on `loop`.
  public func wait(
    for tokens: [Token], options: RequestOptions, on loop: any EventLoop,
    completion: @escaping (Admission) -> Void
  ) -> () -> Void {
    guard tracker.waiterCount < limits.tokenWaitersMax else {
      let bound = NIOLoopBound(completion, eventLoop: loop)
      loop.execute {
        bound.value(.failed(RequestError(.overloaded, "too many reads wait for their tokens")))
      }
      return {}
    }
    let milliseconds = min(
      options.waitMilliseconds ?? limits.tokenWaitMilliseconds, limits.tokenWaitMillisecondsMax)
    let late = missed(
      options.lagPolicy,
      RequestError(.tokenTimeout, "this node did not reach the token within \(milliseconds) ms"))
    let wait = TokenWait(
      gate: self, tracker: tracker, tokens: tokens, loop: loop, completion: completion)
    wait.start(milliseconds: milliseconds, late: late)
    return wait.cancel
  }

  private func missed(_ policy: LagPolicy, _ error: RequestError) -> Admission {
    switch policy {
    case .stale: .hereStale
    case .forward where role == .replica: .forward
    case .forward, .error: .failed(error)
    }
  }
}

/// One read that waits. It is used on its loop alone.
private final class TokenWait {
  private let gate: TokenGate
  private let tracker: PositionTracker
  private let tokens: [Token]
  private let loop: any EventLoop
  private var completion: ((Admission) -> Void)?
  private var waiter: PositionTracker.WaiterID?
  private var alarm: Scheduled<Void>?

  init(
    gate: TokenGate, tracker: PositionTracker, tokens: [Token], loop: any EventLoop,
    completion: @escaping (Admission) -> Void
  ) {
    self.gate = gate
    self.tracker = tracker
    self.tokens = tokens
    self.loop = loop
    self.completion = completion
  }

  private let started = monotonicNanoseconds()

  func start(milliseconds: Int, late: Admission) {
    let bound = NIOLoopBound(self, eventLoop: loop)
    alarm = loop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
      bound.value.ends(late)
    }
    listen()
  }

  private func listen() {
    let bound = NIOLoopBound(self, eventLoop: loop)
    waiter = tracker.whenReached(.transaction(target)) { [loop] in
      loop.execute { bound.value.woken() }
    }
  }

  /// The transaction to wait for. That of an epoch still to come has no place in the present
  /// numbering: then only the change of the epoch wakes.
  private var target: TXID {
    let epoch = tracker.position.epoch
    if tokens.contains(where: { $0.epoch > epoch }) { return TXID(.max) }
    return tokens.map(\.txid).max() ?? .zero
  }

  private func woken() {
    guard completion != nil else { return }
    let admission = gate.admit(tokens)
    if case .wait = admission {
      listen()
    } else {
      finish(admission)
    }
  }

  /// The time is over.
  private func ends(_ late: Admission) {
    let admission = gate.admit(tokens)
    guard case .wait = admission else { return finish(admission) }
    NodeMeters.tokenTimeouts.increment()
    finish(late)
  }

  private func finish(_ admission: Admission) {
    guard let completion else { return }
    NodeMeters.tokenWaits.recordNanoseconds(Int64(clamping: monotonicNanoseconds() - started))
    cancel()
    completion(admission)
  }

  func cancel() {
    completion = nil
    alarm?.cancel()
    if let waiter { tracker.cancel(waiter) }
    waiter = nil
  }
}
