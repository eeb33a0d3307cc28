// What `edge-sql token explain` says.

import Access
import Serving
import Store
import WALShip

/// A credential in words.
struct TokenExplanation {
  private(set) var text = ""
  /// Whether a node with these keys would take it now.
  private(set) var isGood = false

  /// A token that names a state of a database.
  static func text(_ token: Token) -> String {
    var columns = Columns(.left, .left)
    columns.add("kind", "position: what its bearer has seen of a database, not a credential")
    columns.add("database", String(token.description.dropFirst(3).prefix(8)))
    columns.add("epoch", "\(token.epoch)")
    columns.add("transaction", "\(token.txid)")
    columns.add("replication index", "\(token.replicationIndex)")
    return columns.text()
  }

  /// - Parameter keys: nil when it cannot be checked.
  init(_ token: String, keys: [TokenKey]?, nowSeconds: Int64) {
    var columns = Columns(.left, .left)
    defer { text = columns.text() }
    guard let parts = SignedToken(token) else {
      columns.add("kind", "no token: neither a credential nor a position")
      return
    }
    columns.add("kind", "credential (JSON web token), \(parts.algorithmName)")
    let claims: TokenClaims
    do throws(TokenClaims.Failure) {
      claims = try TokenClaims(json: parts.payload)
    } catch {
      columns.add("claims", "not understood, so nothing is allowed: \(error)")
      return
    }
    if let subject = claims.rights.subject { columns.add("subject", subject) }
    for (name, seconds) in [
      ("issued", claims.issued), ("not before", claims.notBefore), ("expires", claims.expires),
    ] {
      if let seconds { columns.add(name, Self.time(seconds, now: nowSeconds)) }
    }
    if claims.expires == nil { columns.add("expires", "never") }
    for (name, right) in Self.rights(claims.rights) { columns.add(name, right) }
    let verdict = Self.verdict(token, keys, nowSeconds)
    columns.add("verdict", verdict.text)
    isGood = verdict.isGood
  }

  private static func rights(_ rights: AccessRights) -> [(String, String)] {
    var lines: [(String, String)] = []
    for name in rights.databases.keys.sorted() {
      lines.append(("may", "\(words(rights.level(for: name))) database \(name)"))
    }
    if rights.anyDatabase > .none || lines.isEmpty {
      lines.append(("may", "\(words(rights.anyDatabase)) every database"))
    }
    return lines
  }

  private static func words(_ level: AccessLevel) -> String {
    switch level {
    case .none: "do nothing with"
    case .read: "read"
    case .write: "read and write"
    case .admin: "read, write, copy and administer"
    }
  }

  private static func verdict(
    _ token: String, _ keys: [TokenKey]?, _ now: Int64
  ) -> (text: String, isGood: Bool) {
    guard let keys else { return ("not checked: give the public key with --key", true) }
    do throws(CredentialError) {
      _ = try TokenVerifier(keys: keys, now: { now }).verify(token)
      return ("good", true)
    } catch {
      switch error {
      case .missing, .invalid: return ("refused: not signed with this key, or not valid yet", false)
      case .expired: return ("refused: it has expired", false)
      }
    }
  }

  private static func time(_ seconds: Int64, now: Int64) -> String {
    guard (0..<253_402_300_800).contains(seconds) else { return "\(seconds) s since 1970" }
    let stamp = NodeLogHandler.timestamp(microseconds: UInt64(seconds) * 1_000_000)
    guard seconds != now else { return stamp.prefix(19) + "Z, now" }
    let distance = DurationText.text(milliseconds: Int(abs(seconds - now)) * 1000)
    return stamp.prefix(19) + "Z, " + (seconds < now ? "\(distance) ago" : "in \(distance)")
  }
}
