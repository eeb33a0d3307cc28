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
    // All digits together: bit 6 is set in what is none.
    var seen: UInt8 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count / 4 * 3 + max(tail - 1, 0)) {
      bytes, written in
      digits.withUnsafeBufferPointer { digits in
        func bits(_ range: Range<Int>) -> UInt32 {
          var bits: UInt32 = 0
          for at in range {
            let digit = digits[Int(text[at])]
            seen |= digit
            bits = bits << 6 | UInt32(digit & 63)
          }
          return bits
        }
        for group in 0..<count / 4 {
          let word = bits(group * 4..<group * 4 + 4)
          bytes[written] = UInt8(truncatingIfNeeded: word >> 16)
          bytes[written + 1] = UInt8(truncatingIfNeeded: word >> 8)
          bytes[written + 2] = UInt8(truncatingIfNeeded: word)
          written += 3
        }
        guard tail > 0 else { return }
        // The last digits hold whole bytes, and bits that belong to none and must be 0.
        let spare = tail == 2 ? 4 : 2
        let rest = bits(count - tail..<count)
        if rest & (1 << spare - 1) != 0 { seen = 64 }
        for shift in stride(from: (tail - 2) * 8, through: 0, by: -8) {
          bytes[written] = UInt8(truncatingIfNeeded: rest >> (spare + shift))
          written += 1
        }
      }
    }
    return seen < 64 ? bytes : nil
  }

  /// The six bits that each character stands for.
  private static let digits = (UInt8.min...UInt8.max).map(value(of:))

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
