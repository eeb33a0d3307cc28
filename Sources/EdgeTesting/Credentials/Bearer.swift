// Everybody who may come to a node with a credential, good or bad, and what each must get. Tables of
// routes are crossed with it.

import Serving

/// Somebody who asks something of a node that asks for credentials.
public enum Bearer: String, CaseIterable, Sendable {
  case nobody, garbage, expired, early, forged, unsigned, confused, endless, unknownScope
  case unknownPermission, otherAudience, otherDatabase, reader, writer, admin

  /// What the bearer may do with the database; nil when the credential is not accepted at all.
  public var level: AccessLevel? {
    switch self {
    case .nobody, .garbage, .expired, .early, .forged, .unsigned, .confused, .endless,
      .unknownScope, .unknownPermission, .otherAudience:
      nil
    case .otherDatabase: AccessLevel.none
    case .reader: .read
    case .writer: .write
    case .admin: .admin
    }
  }

  /// How the credential is refused.
  public var refusal: CredentialError? {
    switch self {
    case .nobody: .missing
    case .expired: .expired
    case .garbage, .early, .forged, .unsigned, .confused, .endless, .unknownScope,
      .unknownPermission, .otherAudience:
      .invalid
    case .otherDatabase, .reader, .writer, .admin: nil
    }
  }
}
