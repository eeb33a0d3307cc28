// The signature algorithms of client tokens. Each key is pinned to one of them, so that a token
// cannot choose how it is checked.
//
// Source: RFC 8725 section 3.1

/// An algorithm that a key can be pinned to, by its name in tokens.
public enum TokenAlgorithm: String, CaseIterable, Sendable {
  case edDSA = "EdDSA"
  case es256 = "ES256"
}
