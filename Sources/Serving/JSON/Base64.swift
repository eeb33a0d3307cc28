// Base64, for values that are bytes. The standard alphabet; not the one for URLs, no line breaks.
//
// Source: RFC 4648 section 4

/// Decoding of base64; `OutputBytes.writeBase64` encodes.
public enum Base64 {
  static let alphabet: StaticString =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

  /// Decodes `text`, with padding or without.
  ///
  /// - Returns: nil for anything else, and when the last digit holds bits that belong to no byte.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard let count = digitCount(text) else { return nil }
    let tail = count % 4
    guard tail != 1 else { return nil }
    var isValid = true
    let bytes = [UInt8](unsafeUninitializedCapacity: count / 4 * 3 + max(tail - 1, 0)) {
      bytes, written in
      var bits: UInt32 = 0
      for at in 0..<count {
        let digit = value(of: text[at])
        if digit > 63 { isValid = false }
        bits = bits << 6 | UInt32(digit & 63)
        guard at % 4 == 3 else { continue }
        bytes[written] = UInt8(truncatingIfNeeded: bits >> 16)
        bytes[written + 1] = UInt8(truncatingIfNeeded: bits >> 8)
        bytes[written + 2] = UInt8(truncatingIfNeeded: bits)
        written += 3
      }
      if tail == 2 {
        bytes[written] = UInt8(truncatingIfNeeded: bits >> 4)
        written += 1
        if bits & 0xf != 0 { isValid = false }
      } else if tail == 3 {
        bytes[written] = UInt8(truncatingIfNeeded: bits >> 10)
        bytes[written + 1] = UInt8(truncatingIfNeeded: bits >> 2)
        written += 2
        if bits & 0x3 != 0 { isValid = false }
      }
    }
    return isValid ? bytes : nil
  }

  /// How many characters come before the padding; nil if the padding is wrong.
  private static func digitCount(_ text: UnsafeRawBufferPointer) -> Int? {
    var count = text.count
    while count > 0, text.count - count < 2, text[count - 1] == UInt8(ascii: "=") { count -= 1 }
    guard count == text.count || text.count % 4 == 0 else { return nil }
    return count
  }

  /// The six bits that a character stands for; 64 if it is not of the alphabet.
  @inline(__always)
  private static func value(of character: UInt8) -> UInt8 {
    switch character {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: 64
    }
  }
}

extension OutputBytes {
  /// Appends `bytes` in base64.
  public mutating func writeBase64(_ bytes: UnsafeRawBufferPointer, padding: Bool = true) {
    let whole = bytes.count / 3
    let tail = bytes.count % 3
    let digits = Base64.alphabet.utf8Start
    append(atMost: (whole + 1) * 4) { space in
      func digit(_ bits: UInt32, _ shift: UInt32) -> UInt8 { digits[Int(bits >> shift & 63)] }
      var to = 0
      for group in 0..<whole {
        let at = group * 3
        let bits = UInt32(bytes[at]) << 16 | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2])
        space[to] = digit(bits, 18)
        space[to + 1] = digit(bits, 12)
        space[to + 2] = digit(bits, 6)
        space[to + 3] = digit(bits, 0)
        to += 4
      }
      guard tail > 0 else { return to }
      let at = whole * 3
      let bits = UInt32(bytes[at]) << 16 | (tail == 2 ? UInt32(bytes[at + 1]) << 8 : 0)
      space[to] = digit(bits, 18)
      space[to + 1] = digit(bits, 12)
      to += 2
      if tail == 2 {
        space[to] = digit(bits, 6)
        to += 1
      }
      for _ in 0..<(padding ? 3 - tail : 0) {
        space[to] = UInt8(ascii: "=")
        to += 1
      }
      return to
    }
  }
}
