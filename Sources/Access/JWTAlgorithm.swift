// The signature algorithms of client tokens. Each key is pinned to one of them, so that a token
// cannot choose how it is checked.

import JWTKit
import NIOSSL
import Serving

/// An algorithm that a key can be pinned to.
public enum JWTAlgorithm: String, CaseIterable, Sendable {
  case edDSA = "EdDSA"
  case es256 = "ES256"
}
