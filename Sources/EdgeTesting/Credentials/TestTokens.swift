// Tokens for tests: good ones, and every forgery that is known.
//
// Source: RFC 8725 section 2, https://auth0.com/blog/critical-vulnerabilities-in-json-web-token-libraries/

import Access
import Crypto
import Serving
import Store

/// A key, and tokens of it and of others. Its verifier must ask for an end (`--auth-require-exp`).
public struct TestTokens: Sendable {
  public let key: SigningKey
  public let stranger: SigningKey

  public init(_ algorithm: TokenAlgorithm = .edDSA) async throws {
    key = try await .generate(algorithm)
    stranger = try await .generate(algorithm)
  }

  /// The public key in a file of `directory`, as a node wants it.
  public func keyFile(in directory: TestDirectory) throws -> String {
    try directory.write("tokens.pem", key.publicPEM + "\n")
  }

  /// The credential of a bearer; nil for none.
  ///
  /// - Parameter seconds: how long it is good.
  public func token(_ bearer: Bearer, seconds: Int64 = 3600) throws -> String? {
    let now = Self.nowSeconds
    let end = "\"exp\":\(now + seconds)"
    switch bearer {
    case .nobody: return nil
    case .garbage: return "this is no token"
    case .expired: return try signed("{\"a\":\"rw\",\"exp\":\(now - 60)}")
    case .early: return try signed("{\"a\":\"rw\",\"nbf\":\(now + 60),\(end)}")
    case .forged: return try signed("{\"a\":\"admin\",\(end)}", by: stranger)
    case .unsigned: return Self.text("{\"alg\":\"none\"}", "{\"a\":\"admin\",\(end)}") + "."
    case .confused: return confused("{\"a\":\"admin\",\(end)}")
    case .endless: return try signed("{\"a\":\"rw\"}")
    case .unknownScope: return try signed("{\"a\":\"root\",\(end)}")
    case .unknownPermission:
      return try signed("{\"p\":{\"rw\":{\"ns\":[\"default\"]},\"all\":{}},\(end)}")
    case .otherAudience: return try signed("{\"a\":\"admin\",\"aud\":\"another\",\(end)}")
    case .otherDatabase: return try signed("{\"p\":{\"admin\":{\"ns\":[\"another\"]}},\(end)}")
    case .reader: return try signed("{\"a\":\"ro\",\(end)}")
    case .writer: return try signed("{\"p\":{\"rw\":{\"ns\":[\"default\"]}},\(end)}")
    case .admin: return try signed("{\"a\":\"admin\",\"sub\":\"operator\",\(end)}")
    }
  }

  /// A token of any claims.
  public func signed(_ claims: String, by other: SigningKey? = nil) throws -> String {
    let signer = other ?? key
    let head = Self.text("{\"alg\":\"\(signer.algorithm.rawValue)\",\"typ\":\"JWT\"}", claims)
    return head + "." + Base64URL.encode(try signer.signature(of: Array(head.utf8)))
  }

  /// The public key taken for the secret of an HMAC.
  private func confused(_ claims: String) -> String {
    let head = Self.text("{\"alg\":\"HS256\"}", claims)
    let secret = SymmetricKey(data: Array((key.publicPEM + "\n").utf8))
    let code = HMAC<SHA256>.authenticationCode(for: Array(head.utf8), using: secret)
    return head + "." + Base64URL.encode(Array(code))
  }

  private static func text(_ header: String, _ claims: String) -> String {
    Base64URL.encode(header.utf8) + "." + Base64URL.encode(claims.utf8)
  }

  public static var nowSeconds: Int64 { Int64(wallClockMicroseconds() / 1_000_000) }
}
