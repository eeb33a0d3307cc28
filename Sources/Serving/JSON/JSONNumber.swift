// Numbers in JSON texts: integers exact over 64 bits, everything else correctly rounded.
//
// A number with a point or an exponent is REAL, one without is INTEGER: the distinction SQLite
// makes.
// Source: RFC 8259 section 6; W. D. Clinger, How to Read Floating Point Numbers Accurately (1990).

/// A JSON number by what it becomes in SQLite.
public enum JSONNumber: Equatable, Sendable {
  case integer(Int64)
  case real(Double)
}

/// The parts of a number, before it is converted.
struct JSONNumberToken {
  var range: Range<Int>
  var isNegative = false
  /// Whether it has a point or an exponent.
  var isReal = false
  /// All digits as one number, as long as they fit.
  var digits: UInt64 = 0
  var digitsOverflow = false
  /// The power of ten that `digits` is to be multiplied with.
  var exponent = 0
}

extension JSONReader {
  /// The longest number: every double can be written exactly in fewer characters.
  static let numberBytesMax = 2048

  /// Reads a number.
  ///
  /// - Throws: also when it is an integer outside of 64 bits, or larger than any finite double.
  public mutating func number() throws(JSONError) -> JSONNumber {
    let token = try numberToken()
    if token.isReal { return .real(try real(token)) }
    let limit = UInt64(Int64.max) + (token.isNegative ? 1 : 0)
    guard !token.digitsOverflow, token.digits <= limit else {
      throw JSONError(
        offset: token.range.lowerBound,
        reason: "this integer does not fit in 64 bits (with a point it would be a REAL)")
    }
    return .integer(Int64(truncatingIfNeeded: token.isNegative ? 0 &- token.digits : token.digits))
  }

  /// Checks a number and goes past it.
  mutating func numberToken() throws(JSONError) -> JSONNumberToken {
    let first = try firstByte()
    var token = JSONNumberToken(range: offset..<offset)
    if first == UInt8(ascii: "-") {
      token.isNegative = true
      offset += 1
    }
    let integerStart = offset
    guard takeDigits(into: &token) > 0 else { throw error("a number was expected") }
    if bytes[integerStart] == UInt8(ascii: "0"), offset > integerStart + 1 {
      throw JSONError(offset: integerStart, reason: "a number must not begin with 0")
    }
    if offset < bytes.count, bytes[offset] == UInt8(ascii: ".") {
      offset += 1
      token.isReal = true
      let count = takeDigits(into: &token)
      guard count > 0 else { throw error("a digit must follow the point") }
      token.exponent -= count
    }
    if offset < bytes.count, bytes[offset] | 0x20 == UInt8(ascii: "e") {
      offset += 1
      token.isReal = true
      token.exponent += try writtenExponent()
    }
    token.range = token.range.lowerBound..<offset
    guard token.range.count <= Self.numberBytesMax else {
      throw JSONError(
        offset: token.range.lowerBound,
        reason: "a number must not be longer than \(Self.numberBytesMax) characters")
    }
    return token
  }

  @inline(__always)
  private mutating func takeDigits(into token: inout JSONNumberToken) -> Int {
    let start = offset
    while offset < bytes.count {
      let digit = bytes[offset] &- UInt8(ascii: "0")
      guard digit < 10 else { break }
      let (product, overflow) = token.digits.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
      if overflow || carry { token.digitsOverflow = true }
      token.digits = sum
      offset += 1
    }
    return offset - start
  }

  /// Reads what follows the `e`. Beyond any double's range its exact value does not matter.
  private mutating func writtenExponent() throws(JSONError) -> Int {
    var isNegative = false
    if offset < bytes.count,
      bytes[offset] == UInt8(ascii: "-") || bytes[offset] == UInt8(ascii: "+")
    {
      isNegative = bytes[offset] == UInt8(ascii: "-")
      offset += 1
    }
    let start = offset
    var value = 0
    while offset < bytes.count {
      let digit = bytes[offset] &- UInt8(ascii: "0")
      guard digit < 10 else { break }
      value = min(value * 10 + Int(digit), 1_000_000)
      offset += 1
    }
    guard offset > start else { throw error("a digit must follow the exponent") }
    return isNegative ? -value : value
  }

  private func real(_ token: JSONNumberToken) throws(JSONError) -> Double {
    if !token.digitsOverflow, let value = Self.exactReal(token.digits, exponent: token.exponent) {
      return token.isNegative ? -value : value
    }
    let text = String(decoding: bytes[token.range], as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw JSONError(
        offset: token.range.lowerBound, reason: "this number is too large for a REAL")
    }
    return value
  }

  /// `digits · 10^exponent` when one operation on exact operands gives it, and so rounds correctly.
  private static func exactReal(_ digits: UInt64, exponent: Int) -> Double? {
    if digits == 0 { return 0 }
    guard digits <= 1 << 53 else { return nil }
    guard let power = powerOfTen(exponent.magnitude) else { return nil }
    return exponent < 0 ? Double(digits) / power : Double(digits) * power
  }

  /// `10^exponent` if a double holds it exactly, that is up to 22.
  static func powerOfTen(_ exponent: UInt) -> Double? {
    guard exponent <= 22 else { return nil }
    var power = 1.0
    for _ in 0..<exponent { power *= 10 }
    return power
  }
}
