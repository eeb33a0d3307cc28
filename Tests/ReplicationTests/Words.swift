// Credentials that are plain words, for tests of what each client may do.

import Serving

/// Knows clients by one word each.
struct Words: CredentialVerifier {
  private let rights: [String: AccessRights]

  /// - Parameter levels: what each word allows, by database. `late` is a word that has expired.
  init(_ levels: [String: [String: AccessLevel]]) {
    rights = levels.mapValues { AccessRights(databases: $0) }
  }

  /// The usual clients of the database `default`.
  static let usual = Words([
    "reader": ["default": .read], "writer": ["default": .write], "stranger": ["other": .write],
  ])

  func verify(_ credential: String?) throws(CredentialError) -> AccessRights {
    guard let credential else { throw .missing }
    if credential == "late" { throw .expired }
    guard let known = rights[credential] else { throw .invalid }
    return known
  }
}
