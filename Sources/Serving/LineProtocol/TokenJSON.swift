// Tokens in requests, read without a String: every client that follows its own writes sends one
// each time.
//
// `Token` says what a token is; this knows only the plain form and leaves all others to it.

import WALShip

extension Token {
  /// Reads the text of a JSON string.
  init?(_ text: JSONText) {
    if !text.hasEscapes, let token = Self.plain(text.raw) {
      self = token
    } else {
      self.init(text.string)
    }
  }

  /// Reads `e1.<8 digits, hexadecimal>.<epoch>.<txid>`.
  ///
  /// - Returns: nil for anything else, which may be a token nevertheless.
  private static func plain(_ bytes: UnsafeRawBufferPointer) -> Token? {
    let point = UInt8(ascii: ".")
    guard bytes.count > 12, bytes.count <= textBytesMax, bytes[0] == UInt8(ascii: "e"),
      bytes[1] == UInt8(ascii: "1"), bytes[2] == point, bytes[11] == point
    else { return nil }
    var database: UInt32 = 0
    for byte in bytes[3..<11] {
      guard let digit = JSONReader.hexDigit(byte) else { return nil }
      database = database << 4 | UInt32(digit)
    }
    var at = 12
    guard let epoch = decimal(bytes, &at), epoch <= UInt64(UInt32.max), at < bytes.count,
      bytes[at] == point
    else { return nil }
    at += 1
    guard let txid = decimal(bytes, &at), txid < 1 << 40, at == bytes.count else { return nil }
    return Token(
      database: database, epoch: Epoch(UInt32(truncatingIfNeeded: epoch)), txid: TXID(txid))
  }

  /// Reads up to 18 decimal digits.
  private static func decimal(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> UInt64? {
    let start = at
    var value: UInt64 = 0
    while at < bytes.count {
      let digit = bytes[at] &- UInt8(ascii: "0")
      guard digit < 10 else { break }
      guard at - start < 18 else { return nil }
      value = value * 10 + UInt64(digit)
      at += 1
    }
    return at > start ? value : nil
  }
}
