// The texts of credentials: from anybody who can connect, before anything is known of them.

import Access
import Serving

extension DecoderCheck {
  static let credentialChecks = [DecoderCheck("credential", checkCredential)]

  /// A text is one token or none; what is understood of its claims can be written and is read as the
  /// same; and no rights come of what is not understood.
  private static func checkCredential(_ bytes: [UInt8]) throws {
    let text = String(decoding: bytes, as: UTF8.self)
    if let token = SignedToken(text) {
      try require(text.utf8.count <= SignedToken.bytesMax, "a token that is too long")
      let whole =
        String(decoding: token.signed, as: UTF8.self) + "." + Base64URL.encode(token.signature)
      try require(whole == text, "a token has two texts")
      try checkClaims(token.payload)
    }
    // The claims alone, too: mutations rarely get through base64.
    try checkClaims(bytes)
  }

  private static func checkClaims(_ bytes: [UInt8]) throws {
    guard let claims = try? TokenClaims(json: bytes) else { return }
    guard let again = try? TokenClaims(json: Array(claims.json.utf8)) else {
      throw TestFailure("claims are refused when they come back: \(claims.json)")
    }
    try require(again.rights.anyDatabase <= claims.rights.anyDatabase, "rights grow")
    for name in Set(again.rights.databases.keys).union(claims.rights.databases.keys) {
      try require(
        again.rights.level(for: name) == claims.rights.level(for: name), "rights change")
    }
    try require(again.expires == claims.expires, "an end changes")
  }
}
