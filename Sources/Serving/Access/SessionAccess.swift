// What the client of a connection may do, from the credential that it presented. HTTP requests each
// carry one and need none of this.
// Source: docs/PROTOCOL.md, credentials

import Store

/// The credential of a connection, and what it is worth.
public struct SessionAccess: Sendable {
  /// A credential is looked at again so often: keys may have changed, and it ends at some time.
  private static let trustNanoseconds: UInt64 = 2_000_000_000

  private let verifier: (any CredentialVerifier)?
  private var credential: String?
  private var rights: AccessRights?
  /// Up to here nothing is asked again, by the monotonic clock.
  private var trustedUntil = UInt64.max

  /// - Parameter verifier: nil when no credentials are asked for.
  public init(verifier: (any CredentialVerifier)?) {
    self.verifier = verifier
    rights = verifier == nil ? .full : nil
  }

  /// Whether a credential is still to come.
  public var isAnonymous: Bool { rights == nil }

  /// Takes a credential in place of the one before; a bad one leaves the client with nothing.
  ///
  /// - Parameter now: by the monotonic clock, in nanoseconds.
  public mutating func present(_ credential: String, at now: UInt64) throws(RequestError) {
    guard verifier != nil else { return }
    self.credential = credential
    try verify(at: now)
  }

  /// What the client may do with a database now.
  ///
  /// - Throws: `AUTH_REQUIRED` without a credential, `AUTH_DENIED` when it is not good any more.
  public mutating func level(
    for database: String, at now: UInt64
  ) throws(RequestError) -> AccessLevel {
    if now >= trustedUntil { try verify(at: now) }
    guard let rights else { throw RequestError(CredentialError.missing) }
    return rights.level(for: database)
  }

  private mutating func verify(at now: UInt64) throws(RequestError) {
    guard let verifier else { return }
    rights = nil
    trustedUntil = .max
    do throws(CredentialError) {
      rights = try verifier.verify(credential)
    } catch {
      // An expired one is told so for as long as the client goes on with it.
      if error == .expired { trustedUntil = now } else { credential = nil }
      throw RequestError(error)
    }
    trustedUntil = now + Self.trustNanoseconds
    guard let expiry = rights?.expirySeconds else { return }
    let wall = Int64(wallClockMicroseconds() / 1000)
    let (end, overflows) = expiry.multipliedReportingOverflow(by: 1000)
    guard !overflows, end - wall < Int64(Self.trustNanoseconds / 1_000_000) else { return }
    trustedUntil = now + UInt64(max(0, end - wall)) * 1_000_000
  }
}

extension RequestError {
  /// What a client is told whose credential is not accepted.
  public init(_ error: CredentialError) {
    switch error {
    case .missing:
      self.init(
        .authRequired,
        "this node asks for a credential: send {\"auth\":\"TOKEN\"} before anything else")
    case .invalid: self.init(.authDenied, "the credential is not valid here")
    case .expired: self.init(.authDenied, "the credential has expired")
    }
  }

  /// What a client is told whose credential is good, but not for this.
  public static func denied(_ level: AccessLevel, needs needed: AccessLevel) -> RequestError {
    RequestError(
      .authDenied,
      "this needs the right to \(needed.verb), the credential only allows to \(level.verb)")
  }
}

extension AccessLevel {
  fileprivate var verb: String {
    switch self {
    case .none: "do nothing"
    case .read: "read"
    case .write: "write"
    case .admin: "administer"
    }
  }
}
