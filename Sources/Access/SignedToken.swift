// A token taken apart: nothing in it is believed yet.
//
// Source: RFC 7515 section 3.1 (compact serialization), RFC 8725

import NIOCore
import Serving

/// The parts of a token, as its text has them.
public struct SignedToken: Equatable, Sendable {
  /// Longer ones are refused unread.
  public static let bytesMax = 8192

  /// Whatever the header says; perhaps no algorithm that is known here.
  public var algorithmName: String
  /// The claims, as JSON.
  public var payload: [UInt8]
  /// What the signature is over.
  public var signed: [UInt8]
  public var signature: [UInt8]

  /// Takes a text apart.
  ///
  /// - Returns: nil when it is not a token.
  public init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count <= Self.bytesMax else { return nil }
    let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 3, let header = Base64URL.decode(parts[0]),
      let payload = Base64URL.decode(parts[1]), let signature = Base64URL.decode(parts[2]),
      let name = Self.algorithmName(header)
    else { return nil }
    algorithmName = name
    self.payload = payload
    self.signature = signature
    signed = Array(bytes[..<(parts[0].count + 1 + parts[1].count)])
  }

  /// - Returns: nil also for a header that asks for what is not known here.
  private static func algorithmName(_ header: [UInt8]) -> String? {
    guard let members = try? ClaimsReader.members(header) else { return nil }
    var name: String?
    for member in members {
      switch (member.key, member.value) {
      case ("alg", .string(let text)): name = text
      case ("typ", .string(let text)) where text.uppercased() == "JWT": break
      case ("kid", .string): break
      case ("alg", _), ("typ", _), ("kid", _), ("crit", _), ("b64", _), ("enc", _), ("zip", _):
        return nil
      default: break
      }
    }
    return name
  }
}

/// JSON objects in which every key has one meaning.
enum ClaimsReader {
  struct Malformed: Error {
    var reason: String
    init(_ reason: String) { self.reason = reason }
  }

  private static let limits = JSONValue.Limits(bytesMax: SignedToken.bytesMax, valuesMax: 2048)

  /// The members of the object that is the whole of `bytes`.
  static func members(_ bytes: [UInt8]) throws(Malformed) -> [JSONValue.Member] {
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue.parse(ByteBuffer(bytes: bytes), limits: limits)
    } catch {
      throw Malformed("not JSON: \(error)")
    }
    return try members(value, "the token")
  }

  static func members(
    _ value: JSONValue, _ name: String
  ) throws(Malformed) -> [JSONValue.Member] {
    guard case .object(let members) = value else { throw Malformed("\(name) is not an object") }
    guard Set(members.map(\.key)).count == members.count else {
      throw Malformed("\(name) has a key twice")
    }
    return members
  }

  static func strings(_ value: JSONValue, _ name: String) throws(Malformed) -> [String] {
    guard case .array(let elements) = value else { throw Malformed("\(name) is not an array") }
    var strings: [String] = []
    for element in elements {
      guard case .string(let text) = element else {
        throw Malformed("\(name) holds something else than text")
      }
      strings.append(text)
    }
    return strings
  }
}
