// The private key that client tokens are made with. Nodes never have it.

import Crypto
import JWTKit
import Serving
import Store

/// A private key. It does not print itself.
public struct SigningKey: Sendable, CustomStringConvertible {
  public let algorithm: TokenAlgorithm
  /// The public key, as PEM.
  public let publicPEM: String
  private let privatePEM: String
  private let signer: any JWTAlgorithm

  public var description: String { "<private key>" }

  /// A new key.
  public static func generate(_ algorithm: TokenAlgorithm) async throws -> SigningKey {
    switch algorithm {
    case .edDSA: try await SigningKey(EdDSA.PrivateKey())
    case .es256: try await SigningKey(ES256PrivateKey())
    }
  }

  /// Reads a key from a file that only its owner may read.
  public static func load(_ path: String) async throws -> SigningKey {
    let text = String(decoding: try KeyFile.read(path, isPrivate: true), as: UTF8.self)
    let block = KeyFile.blocks(text).first { $0.label.hasSuffix("PRIVATE KEY") }
    guard let pem = block?.pem else {
      throw KeyFileFailure("\(path) holds no private key in PEM")
    }
    if let key = try? EdDSA.PrivateKey(pem: pem) { return try await SigningKey(key) }
    if let key = try? ES256PrivateKey(pem: pem) { return try await SigningKey(key) }
    throw KeyFileFailure("\(path): the private key is neither Ed25519 nor P-256")
  }

  /// Writes the key to a new file that only its owner may read.
  public func save(_ path: String) throws {
    guard !Disk.exists(path) else {
      throw KeyFileFailure("\(path) exists: a key is never written over")
    }
    try Disk.replace(path, with: Array(privatePEM.utf8) + [UInt8(ascii: "\n")])
  }

  /// Makes a token of claims.
  public func token(_ claims: TokenClaims) throws -> String {
    let header = "{\"alg\":\"\(algorithm.rawValue)\",\"typ\":\"JWT\"}"
    let signed = Base64URL.encode(header.utf8) + "." + Base64URL.encode(claims.json.utf8)
    return signed + "." + Base64URL.encode(try signature(of: Array(signed.utf8)))
  }

  /// Signs any bytes.
  package func signature(of bytes: [UInt8]) throws -> [UInt8] { try signer.sign(bytes) }

  private init(_ key: EdDSA.PrivateKey) async throws {
    algorithm = .edDSA
    publicPEM = key.publicKey.pemRepresentation
    privatePEM = key.pemRepresentation
    signer = try await JWTKeyCollection().add(eddsa: key).getKey()
  }

  private init(_ key: ES256PrivateKey) async throws {
    algorithm = .es256
    publicPEM = key.publicKey.pemRepresentation
    privatePEM = key.pemRepresentation
    signer = try await JWTKeyCollection().add(ecdsa: key).getKey()
  }
}
