// How a line shows that the client speaks another protocol than ours.
//
// SQL must not be taken for HTTP: `DELETE FROM t` is a statement, `DELETE /t HTTP/1.1` is not.
// Source: RFC 9112 sections 3 and 5; RFC 8446 section 5.1 for the first byte of TLS

/// A protocol that is not the line protocol.
public enum ForeignProtocol: Equatable, Sendable {
  case http, tls

  /// The record type of a handshake, with which every TLS client begins.
  static let tlsFirstByte: UInt8 = 0x16
  /// How much of a line that has no end is looked at.
  static let bytesLookedAt = 64

  /// The sentence of the `WRONG_PROTOCOL` answer.
  public var message: String {
    switch self {
    case .http: "this port speaks the line protocol, not HTTP"
    case .tls: "this port speaks the line protocol without TLS"
    }
  }

  /// Looks at a line.
  ///
  /// - Parameter isWhole: false when only the beginning of the line is there.
  init?(_ bytes: UnsafeRawBufferPointer, isWhole: Bool) {
    guard let found = Self.find(bytes, isWhole: isWhole) else { return nil }
    self = found
  }

  private static func find(_ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> ForeignProtocol? {
    guard let first = bytes.first else { return nil }
    if first == tlsFirstByte { return .tls }
    let limit = min(bytes.count, bytesLookedAt)
    var end = 0
    while end < limit, isNameByte(bytes[end]) { end += 1 }
    guard end > 0, end < limit else { return nil }
    let name = UnsafeRawBufferPointer(rebasing: bytes[..<end])
    switch bytes[end] {
    case UInt8(ascii: ":"): return isHeader(name) ? .http : nil
    case UInt8(ascii: " "):
      guard isMethod(name) else { return nil }
      let isNeverSQL = equals(name, "GET") || equals(name, "POST")
      let rest = bytes[(end + 1)...]
      let isHTTP =
        isNeverSQL || rest.first == UInt8(ascii: "/") || isWhole && isTargetAndVersion(rest)
      return isHTTP ? .http : nil
    default: return nil
    }
  }

  /// Whether `rest` is a target of any form and `HTTP/n`, with one space between them.
  private static func isTargetAndVersion(_ rest: Slice<UnsafeRawBufferPointer>) -> Bool {
    guard let space = rest.firstIndex(of: UInt8(ascii: " ")) else { return false }
    let version = rest[(space + 1)...]
    return version.starts(with: "HTTP/".utf8) && !version.contains(UInt8(ascii: " "))
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte | 0x20 {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "-"): true
    default: false
    }
  }

  private static let methods: [StaticString] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI",
  ]

  private static let headers: [StaticString] = [
    "host", "user-agent", "accept", "connection", "origin", "referer", "cookie", "authorization",
    "transfer-encoding", "upgrade", "upgrade-insecure-requests", "cache-control", "date", "dnt",
  ]

  private static let headerFamilies: [StaticString] = ["accept-", "content-", "sec-", "x-", "if-"]

  private static func isMethod(_ name: UnsafeRawBufferPointer) -> Bool {
    guard name.count <= 7 else { return false }
    return methods.contains { equals(name, $0) }
  }

  private static func isHeader(_ name: UnsafeRawBufferPointer) -> Bool {
    headers.contains { equals(name, $0, caseBit: 0x20) }
      || headerFamilies.contains { family in
        name.count > family.utf8CodeUnitCount
          && equals(
            UnsafeRawBufferPointer(rebasing: name[..<family.utf8CodeUnitCount]), family,
            caseBit: 0x20)
      }
  }

  private static func equals(
    _ name: UnsafeRawBufferPointer, _ known: StaticString, caseBit: UInt8 = 0
  ) -> Bool {
    guard name.count == known.utf8CodeUnitCount else { return false }
    return known.withUTF8Buffer { known in
      for at in 0..<known.count where name[at] | caseBit != known[at] { return false }
      return true
    }
  }
}
