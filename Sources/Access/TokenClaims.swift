// What a token says of its bearer. The claims are those that sqld knows, and ours: whatever is about
// rights and is not known makes the token worthless, for a right that is misread is a right that
// nobody gave.
//
// Source: docs/SECURITY.md; libsql-server, auth/user_auth_strategies/jwt.rs and auth/authorized.rs

import Serving

/// The claims of a token.
public struct TokenClaims: Equatable, Sendable {
  /// Of the databases that are named, and of all others.
  public var rights: AccessRights
  /// Seconds since 1970.
  public var expires: Int64?
  public var notBefore: Int64?
  public var issued: Int64?

  public init(
    rights: AccessRights, expires: Int64? = nil, notBefore: Int64? = nil, issued: Int64? = nil
  ) {
    self.rights = rights
    self.expires = expires
    self.notBefore = notBefore
    self.issued = issued
  }

  /// What a token must name in `aud`, if it names anything there.
  public static let audience = "edge-sql"

  /// Why claims are not understood.
  public struct Failure: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String
  }

  /// Reads claims.
  public init(json: [UInt8]) throws(Failure) {
    do throws(ClaimsReader.Malformed) {
      self = try Self.read(json)
    } catch {
      throw Failure(description: error.reason)
    }
  }

  private typealias Malformed = ClaimsReader.Malformed

  private static func read(_ json: [UInt8]) throws(Malformed) -> TokenClaims {
    var claims = TokenClaims(rights: AccessRights())
    var access: AccessLevel?
    var database: String?
    var hasPermissions = false
    for member in try ClaimsReader.members(json) {
      switch member.key {
      case "exp": claims.expires = try seconds(member)
      case "nbf": claims.notBefore = try seconds(member)
      case "iat": claims.issued = try seconds(member)
      case "sub": claims.rights.subject = printable(try text(member))
      case "aud": try checkAudience(member.value)
      case "a": access = try level(try text(member))
      case "id": database = try text(member)
      case "p":
        hasPermissions = true
        claims.rights.databases = try permissions(member.value)
      case "scope", "scp", "scopes", "roles", "permissions":
        throw Malformed("\"\(member.key)\" is not how rights are given here")
      default: break
      }
    }
    // As sqld has it: with "p" the other two say nothing; without any of them all may be written.
    if !hasPermissions {
      if let database {
        claims.rights.databases[database] = access ?? .write
      } else {
        claims.rights.anyDatabase = access ?? .write
      }
    }
    return claims
  }

  private static func level(_ word: String) throws(Malformed) -> AccessLevel {
    switch word {
    // With the right to attach other databases, which nobody has here.
    case "ro", "roa": return .read
    case "rw", "rwa", "ddl": return .write
    case "admin": return .admin
    default: throw Malformed("the right \"\(word.prefix(32))\" is not known")
    }
  }

  /// Reads `{"ro":{"ns":["a"]},"rw":{"ns":["b"]}}`.
  private static func permissions(
    _ value: JSONValue
  ) throws(Malformed) -> [String: AccessLevel] {
    var databases: [String: AccessLevel] = [:]
    for member in try ClaimsReader.members(value, "\"p\"") {
      let level = try level(member.key)
      if case .null = member.value { continue }
      for scope in try ClaimsReader.members(member.value, "a permission") {
        switch (scope.key, scope.value) {
        case ("ns", .null), ("tags", .null): break
        case ("ns", let names):
          for name in try ClaimsReader.strings(names, "\"ns\"") {
            databases[name] = max(databases[name] ?? .none, level)
          }
        // Databases have no tags here.
        case ("tags", let names): _ = try ClaimsReader.strings(names, "\"tags\"")
        default: throw Malformed("the permission \"\(scope.key.prefix(32))\" is not known")
        }
      }
    }
    return databases
  }

  private static func checkAudience(_ value: JSONValue) throws(Malformed) {
    let names: [String]
    if case .string(let name) = value {
      names = [name]
    } else {
      names = try ClaimsReader.strings(value, "\"aud\"")
    }
    guard names.contains(audience) else { throw Malformed("the token is for somebody else") }
  }

  private static func text(_ member: JSONValue.Member) throws(Malformed) -> String {
    guard case .string(let text) = member.value else {
      throw Malformed("\"\(member.key)\" is not text")
    }
    return text
  }

  private static func seconds(_ member: JSONValue.Member) throws(Malformed) -> Int64 {
    switch member.value {
    case .integer(let seconds): return seconds
    case .real(let seconds) where abs(seconds) < 9e15: return Int64(seconds)
    case .null, .bool, .real, .string, .array, .object:
      throw Malformed("\"\(member.key)\" is no time")
    }
  }

  /// For logs: what could break a line is left out.
  private static func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(64).filter { $0.value >= 32 && $0.value != 127 })
  }
}

extension TokenClaims {
  /// The claims as JSON, rights in the form that sqld understands, too.
  public var json: String {
    var members: [JSONValue.Member] = []
    if let subject = rights.subject { members.append(.init("sub", .string(subject))) }
    for (key, value) in [("iat", issued), ("nbf", notBefore), ("exp", expires)] {
      if let value { members.append(.init(key, .integer(value))) }
    }
    if rights.databases.isEmpty, let word = rights.anyDatabase.word {
      members.append(.init("a", .string(word)))
    } else {
      members.append(.init("p", permissions))
    }
    var output = OutputBytes()
    JSONValue.object(members).write(into: &output)
    return output.string
  }

  private var permissions: JSONValue {
    .object(
      AccessLevel.allCases.compactMap { level in
        let names = rights.databases.filter { $0.value == level }.keys.sorted()
        guard let word = level.word, !names.isEmpty else { return nil }
        let scope = JSONValue.object([.init("ns", .array(names.map { .string($0) }))])
        return JSONValue.Member(word, scope)
      })
  }
}

extension AccessLevel {
  /// The word for it in tokens; nil for no right at all.
  public var word: String? {
    switch self {
    case .none: nil
    case .read: "ro"
    case .write: "rw"
    case .admin: "admin"
    }
  }
}
