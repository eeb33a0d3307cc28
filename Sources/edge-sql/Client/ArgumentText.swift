// The values of `--args`, as they are typed in a shell.

import Serving

/// An integer, a real number, `null`, a blob as `x'00ff'`, else text.
enum ArgumentText {
  static func json(_ text: String) -> JSONValue {
    if text.lowercased() == "null" { return .null }
    if let integer = integer(text) { return .integer(integer) }
    if let real = real(text) { return .real(real) }
    if let bytes = blob(text) { return .members([("b64", .string(Base64Text.encode(bytes)))]) }
    return .string(text)
  }

  /// Digits with a minus sign or without; a number beyond 64 bits is not an integer.
  private static func integer(_ text: String) -> Int64? {
    text.hasPrefix("+") ? nil : Int64(text)
  }

  /// A number with a point or an exponent. Names such as `nan`, `inf` and hexadecimal forms are
  /// text.
  private static func real(_ text: String) -> Double? {
    let characters = text.utf8.dropFirst(text.hasPrefix("-") ? 1 : 0)
    guard let first = characters.first, first == UInt8(ascii: ".") || isDigit(first),
      characters.allSatisfy({ isDigit($0) || ".eE+-".utf8.contains($0) }),
      characters.contains(where: { ".eE".utf8.contains($0) }), let value = Double(text),
      value.isFinite
    else { return nil }
    return value
  }

  private static func blob(_ text: String) -> [UInt8]? {
    guard text.hasPrefix("x'") || text.hasPrefix("X'"), text.hasSuffix("'"), text.utf8.count >= 3
    else { return nil }
    let digits = Array(text.utf8.dropFirst(2).dropLast())
    guard digits.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = hexDigit(digits[index]),
        let low = hexDigit(digits[index + 1])
      else { return nil }
      bytes.append(high << 4 | low)
    }
    return bytes
  }

  private static func hexDigit(_ byte: UInt8) -> UInt8? {
    Character(UnicodeScalar(byte)).hexDigitValue.map { UInt8($0) }
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
}
