// What the client of a connection may do, from the credential that it presented. HTTP requests each
// carry one and need none of this.
// Source: docs/PROTOCOL.md, credentials

import Store

/// The credential of a connection, and when it ends.
public struct SessionAccess: Sendable {
  private let verifier: (any CredentialVerifier)?
  private var rights: AccessRights?
  /// By the monotonic clock: what happens to the wall clock meanwhile changes nothing.
  private var endNanoseconds = UInt64.max

  /// - Parameter verifier: nil when no credentials are asked for.
  public init(verifier: (any CredentialVerifier)?) {
    self.verifier = verifier
    rights = verifier == nil ? .full : nil
  }

  /// Takes a credential in place of the one before; a bad one leaves the client with nothing.
  ///
  /// - Parameter now: by the monotonic clock, in nanoseconds.
  public mutating func present(_ credential: String, at now: UInt64) throws(RequestError) {
    guard let verifier else { return }
    rights = nil
    do throws(CredentialError) {
      let verified = try verifier.verify(credential)
      endNanoseconds = Self.end(of: verified, at: now)
      rights = verified
    } catch {
      throw RequestError(error)
    }
  }

  /// What the client may do with a database now.
  ///
  /// - Throws: `AUTH_REQUIRED` without a credential, `AUTH_DENIED` when it has expired.
  public func level(for database: String, at now: UInt64) throws(RequestError) -> AccessLevel {
    guard let rights else { throw RequestError(CredentialError.missing) }
    guard now < endNanoseconds else { throw RequestError(CredentialError.expired) }
    return rights.level(for: database)
  }

  private static func end(of rights: AccessRights, at now: UInt64) -> UInt64 {
    guard let expiry = rights.expirySeconds else { return .max }
    let wallSeconds = Int64(wallClockMicroseconds() / 1_000_000)
    // Tokens of many years are for ever as far as a connection goes.
    let left = min(max(0, expiry.subtractingReportingOverflow(wallSeconds).partialValue), 1 << 32)
    return expiry <= wallSeconds ? 0 : now + UInt64(left) * 1_000_000_000
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
