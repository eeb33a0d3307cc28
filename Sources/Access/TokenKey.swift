// The public keys that client tokens are checked with.
//
// Source: RFC 8037 (EdDSA), RFC 7518 section 3.4 (ES256)

import Crypto
import JWTKit
import Serving

/// A public key, pinned to its algorithm.
public struct TokenKey: Sendable {
  public let algorithm: TokenAlgorithm
  private let check: any JWTAlgorithm

  /// Reads keys as files hold them: PEM blocks, or one Ed25519 key as base64 of its 32 bytes.
  ///
  /// - Parameter source: what to call the text in errors.
  public static func parse(_ text: String, source: String) async throws -> [TokenKey] {
    let blocks = KeyFile.blocks(text)
    var keys: [TokenKey] = []
    for block in blocks {
      guard !block.label.contains("PRIVATE") else {
        throw KeyFileFailure(
          "\(source) holds a private key: a node needs the public one, and nobody else yours")
      }
      guard block.label == "PUBLIC KEY" else {
        throw KeyFileFailure("\(source): a block of the kind \"\(block.label)\" is no public key")
      }
      keys.append(try await key(pem: block.pem, source))
    }
    if keys.isEmpty { keys = [try await key(raw: text, source)] }
    return keys
  }

  /// Reads the keys of several files.
  public static func load(_ paths: [String]) async throws -> [TokenKey] {
    var keys: [TokenKey] = []
    for path in paths {
      let bytes = try KeyFile.read(path, isPrivate: false)
      keys += try await parse(String(decoding: bytes, as: UTF8.self), source: path)
    }
    return keys
  }

  /// Whether `signature` is this key's, over `bytes`.
  func isValid(_ signature: [UInt8], for bytes: [UInt8]) -> Bool {
    (try? check.verify(signature, signs: bytes)) ?? false
  }

  init(_ key: EdDSA.PublicKey) async throws {
    algorithm = .edDSA
    check = try await JWTKeyCollection().add(eddsa: key).getKey()
  }

  init(_ key: ES256PublicKey) async throws {
    algorithm = .es256
    check = try await JWTKeyCollection().add(ecdsa: key).getKey()
  }

  private static func key(pem: String, _ source: String) async throws -> TokenKey {
    if let key = try? EdDSA.PublicKey(pem: pem) { return try await TokenKey(key) }
    if let key = try? ES256PublicKey(pem: pem) { return try await TokenKey(key) }
    throw KeyFileFailure("\(source): a public key is neither Ed25519 nor P-256")
  }

  private static func key(raw text: String, _ source: String) async throws -> TokenKey {
    var digits = Array(text.utf8.filter { $0 > 32 })
    while digits.last == UInt8(ascii: "=") { digits.removeLast() }
    for at in digits.indices {
      if digits[at] == UInt8(ascii: "+") { digits[at] = UInt8(ascii: "-") }
      if digits[at] == UInt8(ascii: "/") { digits[at] = UInt8(ascii: "_") }
    }
    guard Base64URL.decode(digits)?.count == 32,
      let key = try? EdDSA.PublicKey(
        x: String(decoding: digits, as: UTF8.self), curve: .ed25519)
    else {
      throw KeyFileFailure(
        "\(source) holds no public key: neither PEM nor base64 of an Ed25519 key")
    }
    return try await TokenKey(key)
  }
}
