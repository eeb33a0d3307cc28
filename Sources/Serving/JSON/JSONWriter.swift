// Writing JSON: each function appends one scalar, without a String or an array in between.
//
// Commas, brackets and keys are the caller's; `ResponseWriter` keeps track of them for the line
// protocol.
// Source: RFC 8259

extension OutputBytes {
  /// Appends a string with its quotation marks.
  ///
  /// - Returns: false when `text` is not UTF-8; nothing is appended then.
  @discardableResult
  public mutating func writeJSONString(_ text: UnsafeRawBufferPointer) -> Bool {
    var stop = JSONScan.cleanRun(text, from: 0)
    if stop == text.count {
      writeQuoted(text)
      return true
    }
    let start = count
    append(UInt8(ascii: "\""))
    var from = 0
    while true {
      append(UnsafeRawBufferPointer(rebasing: text[from..<stop]))
      guard stop < text.count else { break }
      let byte = text[stop]
      guard byte < 0x80 else {
        truncate(to: start)
        return false
      }
      writeJSONEscape(byte)
      from = stop + 1
      stop = JSONScan.cleanRun(text, from: from)
    }
    append(UInt8(ascii: "\""))
    return true
  }

  /// Appends a string with its quotation marks.
  public mutating func writeJSONString(_ text: String) {
    var text = text
    text.withUTF8 { _ = writeJSONString(UnsafeRawBufferPointer($0)) }
  }

  /// Appends an integer in decimal: a JSON number, and what people read.
  public mutating func writeDecimal(_ value: Int64) {
    writeDecimal(value.magnitude, isNegative: value < 0)
  }

  /// Appends an integer in decimal.
  public mutating func writeDecimal(_ value: UInt64) {
    writeDecimal(value, isNegative: false)
  }

  /// Appends the shortest number that reads back as `value`, always with a point or an exponent.
  ///
  /// - Returns: false when `value` is infinite or not a number, for which JSON has no text; nothing
  ///   is appended.
  @discardableResult
  public mutating func writeJSONNumber(_ value: Double) -> Bool {
    guard value.isFinite else { return false }
    if let decimal = ShortDecimal(value) {
      writeShortDecimal(decimal)
      return true
    }
    append(value.description)
    return true
  }

  private mutating func writeQuoted(_ text: UnsafeRawBufferPointer) {
    append(atMost: text.count + 2) { space in
      space[0] = UInt8(ascii: "\"")
      UnsafeMutableRawBufferPointer(rebasing: space[1..<text.count + 1]).copyMemory(from: text)
      space[text.count + 1] = UInt8(ascii: "\"")
      return text.count + 2
    }
  }

  private mutating func writeJSONEscape(_ byte: UInt8) {
    switch byte {
    case UInt8(ascii: "\""): append("\\\"")
    case UInt8(ascii: "\\"): append("\\\\")
    case 0x08: append("\\b")
    case 0x09: append("\\t")
    case 0x0a: append("\\n")
    case 0x0c: append("\\f")
    case 0x0d: append("\\r")
    default:
      append("\\u")
      writeHex(UInt32(byte), digits: 4)
    }
  }

  /// Appends the low `digits` hexadecimal digits of `value`, in lower case.
  mutating func writeHex(_ value: UInt32, digits: Int) {
    append(atMost: digits) { space in
      var rest = value
      for at in stride(from: digits - 1, through: 0, by: -1) {
        let digit = UInt8(truncatingIfNeeded: rest) & 0xf
        space[at] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
        rest >>= 4
      }
      return digits
    }
  }

  @inline(__always)
  private mutating func writeDecimal(_ magnitude: UInt64, isNegative: Bool) {
    let count = DecimalDigits.count(magnitude) + (isNegative ? 1 : 0)
    append(atMost: count) { space in
      if isNegative { space[0] = UInt8(ascii: "-") }
      DecimalDigits.write(magnitude, into: space, end: count)
      return count
    }
  }

  private mutating func writeShortDecimal(_ decimal: ShortDecimal) {
    // Sign, at least one digit before the point, the point.
    let digits = max(DecimalDigits.count(decimal.digits), decimal.places + 1)
    let sign = decimal.isNegative ? 1 : 0
    let count = sign + digits + 1
    append(atMost: count) { space in
      if decimal.isNegative { space[0] = UInt8(ascii: "-") }
      var rest = decimal.digits
      for at in stride(from: count - 1, through: sign, by: -1) {
        guard count - 1 - at != decimal.places else {
          space[at] = UInt8(ascii: ".")
          continue
        }
        space[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
        rest /= 10
      }
      return count
    }
  }
}

/// The digits of integers in decimal.
enum DecimalDigits {
  private static let pairs: StaticString = """
    00010203040506070809101112131415161718192021222324\
    25262728293031323334353637383940414243444546474849\
    50515253545556575859606162636465666768697071727374\
    75767778798081828384858687888990919293949596979899
    """

  /// How many digits `value` has.
  @inline(__always)
  static func count(_ value: UInt64) -> Int {
    var count = 1
    var rest = value
    while rest >= 10_000 {
      rest /= 10_000
      count += 4
    }
    return count + (rest >= 1000 ? 3 : rest >= 100 ? 2 : rest >= 10 ? 1 : 0)
  }

  /// Writes `value` so that its last digit comes before `end`.
  @inline(__always)
  static func write(_ value: UInt64, into space: UnsafeMutableRawBufferPointer, end: Int) {
    var rest = value
    var at = end
    while rest >= 100 {
      let pair = Int(truncatingIfNeeded: rest % 100) * 2
      rest /= 100
      at -= 2
      space[at] = pairs.utf8Start[pair]
      space[at + 1] = pairs.utf8Start[pair + 1]
    }
    let pair = Int(truncatingIfNeeded: rest) * 2
    space[at - 1] = pairs.utf8Start[pair + 1]
    if rest >= 10 { space[at - 2] = pairs.utf8Start[pair] }
  }
}

/// A double as `digits / 10^places`, when that is short: what most columns hold, found without the
/// general algorithm and its String.
///
/// Decimals of up to 15 digits are told apart by doubles, and the places are tried from one up, so
/// the first that reads back as the same double is the shortest.
struct ShortDecimal {
  static let placesMax = 6

  var isNegative: Bool
  var digits: UInt64
  var places: Int

  @inline(__always)
  init?(_ value: Double) {
    let magnitude = value.magnitude
    guard magnitude < 1e9, magnitude >= 0.001 || magnitude == 0 else { return nil }
    isNegative = value.sign == .minus
    var power = 1.0
    for places in 1...Self.placesMax {
      power *= 10
      let scaled = (magnitude * power).rounded()
      if scaled / power == magnitude {
        self.places = places
        digits = UInt64(scaled)
        return
      }
    }
    return nil
  }
}
