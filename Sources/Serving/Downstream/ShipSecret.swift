// The secret that nodes share, and the proofs that both sides of a connection know it. The secret
// itself never travels.

import Crypto
import NIOCore
import Store
import WALShip

/// A pre-shared key. It does not print itself.
public struct ShipSecret: Sendable, CustomStringConvertible {
  private let key: SymmetricKey
  public static let bytesMin = 16
  public var description: String { "<secret>" }

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    case unreadable(String)
    case tooShort(String)
    case readableByOthers(String)
    public var description: String {
      switch self {
      case .unreadable(let path): "the secret file \(path) cannot be read"
      case .tooShort(let path): "the secret in \(path) is shorter than \(ShipSecret.bytesMin) bytes"
      case .readableByOthers(let path):
        "the secret file \(path) can be read by others: `chmod 600` it"
      }
    }
  }

  public init(bytes: [UInt8]) { key = SymmetricKey(data: bytes) }

  /// Reads the secret from a file that only its owner may read; white space around it does not
  /// count.
  public init(file path: String) throws(Failure) {
    guard let mode = Disk.permissions(path), let bytes = try? Disk.readPrefix(of: path, count: 4096)
    else { throw .unreadable(path) }
    guard mode & 0o077 == 0 else { throw .readableByOthers(path) }
    let trimmed = bytes.drop { $0 <= 32 }.reversed().drop { $0 <= 32 }.reversed()
    guard trimmed.count >= Self.bytesMin else { throw .tooShort(path) }
    self.init(bytes: Array(trimmed))
  }

  public static func nonce() -> [UInt8] {
    (0..<ShipHello.nonceBytes).map { _ in Chance.number(in: 0...255) }
  }

  public enum Role: String, Sendable {
    case server = "edge-sql ship server"
    case follower = "edge-sql ship follower"
    case welcome = "edge-sql ship welcome"
    case attach = "edge-sql ship attach"
    case catalogue = "edge-sql ship catalogue"
  }

  /// A proof over both nonces and whatever the message says; the role keeps it from being played
  /// back.
  public func proof(_ role: Role, _ nonces: [[UInt8]], body: ByteBuffer = ByteBuffer()) -> [UInt8] {
    var mac = HMAC<SHA256>(key: key)
    mac.update(data: Array(role.rawValue.utf8))
    for nonce in nonces { mac.update(data: nonce) }
    mac.update(data: Array(body.readableBytesView))
    return Array(mac.finalize())
  }

  /// Compares in constant time.
  public func isValid(
    _ proof: [UInt8], _ role: Role, _ nonces: [[UInt8]], body: ByteBuffer = ByteBuffer()
  ) -> Bool {
    let expected = self.proof(role, nonces, body: body)
    guard proof.count == expected.count else { return false }
    return zip(proof, expected).reduce(0 as UInt8) { $0 | ($1.0 ^ $1.1) } == 0
  }
}

/// Bodies that carry a proof in front: `join` and `welcome`.
public enum ShipProof {
  public static let byteCount = 32

  public static func wrap(
    _ body: ByteBuffer, secret: ShipSecret?, role: ShipSecret.Role, nonces: [[UInt8]]
  ) -> ByteBuffer {
    var wrapped = ByteBuffer()
    let proof = secret?.proof(role, nonces, body: body) ?? [UInt8](repeating: 0, count: byteCount)
    wrapped.writeBytes(proof)
    wrapped.writeImmutableBuffer(body)
    return wrapped
  }

  /// - Returns: the body, or nil when the other side does not know the secret.
  public static func unwrap(
    _ wrapped: ByteBuffer, secret: ShipSecret?, role: ShipSecret.Role, nonces: [[UInt8]]
  ) -> ByteBuffer? {
    var body = wrapped
    guard let proof = body.readBytes(length: byteCount) else { return nil }
    guard let secret else { return body }
    return secret.isValid(proof, role, nonces, body: body) ? body : nil
  }
}
