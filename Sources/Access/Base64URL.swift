// Base64 with the alphabet for URLs, as tokens have it: no padding, no line breaks.
//
// Source: RFC 4648 section 5; RFC 7515 section 2

import Serving

public enum Base64URL {
  /// Decodes `text`.
  ///
  /// - Returns: nil for anything that the encoder would not have written, so that no token has two
  ///   texts.
  public static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var standard: [UInt8] = []
    standard.reserveCapacity(text.count)
    for byte in text {
      switch byte {
      case UInt8(ascii: "-"): standard.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): standard.append(UInt8(ascii: "/"))
      case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="): return nil
      default: standard.append(byte)
      }
    }
    return standard.withUnsafeBytes { Base64.decode($0) }
  }

  public static func encode(_ bytes: some Sequence<UInt8>) -> String {
    var output = OutputBytes()
    Array(bytes).withUnsafeBytes { output.writeBase64($0, padding: false) }
    return String(
      output.string.map { character in
        switch character {
        case "+": "-"
        case "/": "_"
        default: character
        }
      })
  }
}
