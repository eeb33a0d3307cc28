// What the bearer of a credential may do, independent of how it was proven. Verification itself is
// in the module `Access`.
// Source: docs/PROTOCOL.md, credentials

/// What somebody may do with one database. A higher level includes the lower ones.
public enum AccessLevel: UInt8, Comparable, CaseIterable, Sendable {
  /// The database does not exist as far as the bearer is told.
  case none = 0
  /// Reads. Never takes the write lock.
  case read = 1
  case write = 2
  /// Also creates, drops and forks databases, copies them as a whole, and sees the node's status.
  case admin = 3

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// What a verified credential allows.
public struct AccessRights: Equatable, Sendable {
  /// For every database that is not named in `databases`.
  public var anyDatabase: AccessLevel
  public var databases: [String: AccessLevel]
  /// Who it is, for logs; never a secret.
  public var subject: String?
  /// When it ends, in seconds since 1970; nil for never.
  public var expirySeconds: Int64?

  public init(
    anyDatabase: AccessLevel = .none, databases: [String: AccessLevel] = [:],
    subject: String? = nil, expirySeconds: Int64? = nil
  ) {
    self.anyDatabase = anyDatabase
    self.databases = databases
    self.subject = subject
    self.expirySeconds = expirySeconds
  }

  /// Everything: what everybody has on a node that asks for no credentials.
  public static let full = AccessRights(anyDatabase: .admin)

  public func level(for database: String) -> AccessLevel {
    max(anyDatabase, databases[database] ?? .none)
  }
}

/// Why a credential is not accepted. The client gets no more details than these.
public enum CredentialError: Error, Equatable, Sendable {
  case missing, invalid, expired
}

/// Checks credentials of clients. Verified ones are remembered until they expire, so this is cheap
/// enough for event loops. Safe to use from any thread.
public protocol CredentialVerifier: Sendable {
  func verify(_ credential: String?) throws(CredentialError) -> AccessRights
}
