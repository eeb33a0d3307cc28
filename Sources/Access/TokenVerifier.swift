// Checks client tokens. What was checked once is remembered, so that the cost of a signature is paid
// once for each token and not for each request.

import Crypto
import Serving
import Store
import Synchronization

/// The verifier of a node. Safe to use from any thread; nothing in it waits.
public final class TokenVerifier: CredentialVerifier {
  /// How far the clocks of those who make tokens and this one may be apart.
  public static let leewaySeconds: Int64 = 10

  private struct State {
    var keys: [TokenKey]
    var good = RecentValues<TokenClaims>(countMax: 4096)
    /// Of tokens that can never become good; few, since anybody can make them up.
    var bad = RecentValues<Void>(countMax: 256)
    /// Changes with the keys: what was found with others is not remembered.
    var generation = 0
  }

  private let state: Mutex<State>
  private let requiresExpiry: Bool
  private let now: @Sendable () -> Int64
  private let checks = Atomic<Int>(0)

  /// - Parameters:
  ///   - requiresExpiry: whether tokens without an end are refused.
  ///   - now: seconds since 1970.
  public init(
    keys: [TokenKey], requiresExpiry: Bool = false,
    now: @escaping @Sendable () -> Int64 = { Int64(wallClockMicroseconds() / 1_000_000) }
  ) {
    state = Mutex(State(keys: keys))
    self.requiresExpiry = requiresExpiry
    self.now = now
  }

  /// How many signatures were checked so far.
  public var signatureChecks: Int { checks.load(ordering: .relaxed) }

  /// Takes other keys; what the ones before vouched for is checked again.
  public func replace(keys: [TokenKey]) {
    state.withLock { state in
      state = State(keys: keys, generation: state.generation + 1)
    }
  }

  public func verify(_ credential: String?) throws(CredentialError) -> AccessRights {
    guard let credential, !credential.isEmpty else { throw .missing }
    guard credential.utf8.count <= SignedToken.bytesMax else { throw .invalid }
    let digest = SHA256.hash(data: Array(credential.utf8))
    enum Known { case good(TokenClaims), bad, unknown(keys: [TokenKey], generation: Int) }
    let known = state.withLock { state -> Known in
      if let claims = state.good[digest] { return .good(claims) }
      if state.bad[digest] != nil { return .bad }
      return .unknown(keys: state.keys, generation: state.generation)
    }
    switch known {
    case .good(let claims): return try rights(claims)
    case .bad: throw .invalid
    case .unknown(let keys, let generation):
      let claims = check(credential, keys)
      state.withLock { state in
        guard state.generation == generation else { return }
        if let claims { state.good[digest] = claims } else { state.bad[digest] = () }
      }
      guard let claims else { throw .invalid }
      return try rights(claims)
    }
  }

  /// - Returns: nil when the token was not made with one of the keys, or is not understood.
  private func check(_ credential: String, _ keys: [TokenKey]) -> TokenClaims? {
    guard let token = SignedToken(credential) else { return nil }
    let isSigned = keys.contains { key in
      guard key.algorithm.rawValue == token.algorithmName else { return false }
      checks.add(1, ordering: .relaxed)
      return key.isValid(token.signature, for: token.signed)
    }
    return isSigned ? try? TokenClaims(json: token.payload) : nil
  }

  /// What the claims allow at this moment.
  private func rights(_ claims: TokenClaims) throws(CredentialError) -> AccessRights {
    var rights = claims.rights
    let now = now()
    if let start = claims.notBefore, start > Self.later(now) { throw .invalid }
    guard let end = claims.expires else {
      guard !requiresExpiry else { throw .invalid }
      return rights
    }
    rights.expirySeconds = Self.later(end)
    guard now < Self.later(end) else { throw .expired }
    return rights
  }

  private static func later(_ seconds: Int64) -> Int64 {
    let (sum, overflows) = seconds.addingReportingOverflow(leewaySeconds)
    return overflows ? .max : sum
  }
}

/// What was used last, up to a bound, for as long as it is asked for now and then.
struct RecentValues<Value> {
  private var young: [SHA256Digest: Value] = [:]
  private var old: [SHA256Digest: Value] = [:]
  private let halfCount: Int

  init(countMax: Int) { halfCount = max(1, countMax / 2) }

  var count: Int { young.count + old.count }

  subscript(key: SHA256Digest) -> Value? {
    mutating get {
      if let value = young[key] { return value }
      guard let value = old.removeValue(forKey: key) else { return nil }
      self[key] = value
      return value
    }
    set {
      if young.count >= halfCount, young[key] == nil {
        old = young
        young = [:]
      }
      young[key] = newValue
    }
  }
}
