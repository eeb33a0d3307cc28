// Durations and sizes as people write and read them.

/// A text that is not what a setting or a flag asks for: one sentence, without the name of the
/// setting.
struct BadValue: Error, Equatable, Sendable, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// Reads and writes durations: `250ms`, `2s`, `1.5s`, `5m`, `1h`.
enum DurationText {
  private static let units: [(suffix: String, milliseconds: Double)] = [
    ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
  ]

  /// - Returns: whole milliseconds.
  static func milliseconds(_ text: String) throws(BadValue) -> Int {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let suffix = text.dropFirst(number.count)
    guard let value = Double(number) else {
      throw BadValue("\"\(text)\" is not a duration: write for example 250ms, 2s or 5m")
    }
    guard let unit = units.first(where: { $0.suffix == suffix }) else {
      if suffix.isEmpty {
        throw BadValue("\"\(text)\" has no unit: write for example \(text)ms or \(text)s")
      }
      throw BadValue("\"\(suffix)\" in \"\(text)\" is not a unit: use ms, s, m, h or d")
    }
    let milliseconds = (value * unit.milliseconds).rounded()
    guard milliseconds < 1e12 else { throw BadValue("\"\(text)\" is too long") }
    return Int(milliseconds)
  }

  /// `3 ms`, `1.5 s`, `2 min 5 s`, `3 h 20 min`, `4 d 2 h`.
  static func text(milliseconds: Int) -> String {
    let seconds = milliseconds / 1000
    switch milliseconds {
    case ..<1000: return "\(milliseconds) ms"
    case ..<60_000:
      let tenths = milliseconds % 1000 / 100
      return tenths == 0 ? "\(seconds) s" : "\(seconds).\(tenths) s"
    case ..<3_600_000: return "\(seconds / 60) min \(seconds % 60) s"
    case ..<86_400_000: return "\(seconds / 3600) h \(seconds / 60 % 60) min"
    default: return "\(seconds / 86400) d \(seconds / 3600 % 24) h"
    }
  }

  /// Nanoseconds with three digits that matter: `41.2 µs`, `1.83 ms`, `2.50 s`.
  static func text(nanoseconds: UInt64) -> String {
    let value = Double(nanoseconds)
    switch nanoseconds {
    case ..<1000: return "\(nanoseconds) ns"
    case ..<1_000_000: return threeDigits(value / 1e3) + " µs"
    case ..<1_000_000_000: return threeDigits(value / 1e6) + " ms"
    default: return threeDigits(value / 1e9) + " s"
    }
  }

  private static func threeDigits(_ value: Double) -> String {
    fixed(value, decimals: value < 10 ? 2 : value < 100 ? 1 : 0)
  }
}

/// Reads and writes sizes: `512`, `64KiB`, `1MiB`, `2GiB`.
enum SizeText {
  private static let units: [(suffix: String, bytes: Int)] = [
    ("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
  ]

  static func bytes(_ text: String) throws(BadValue) -> Int {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    let suffix = text.dropFirst(digits.count)
    guard let number = Int(digits), let unit = units.first(where: { $0.suffix == suffix }) else {
      throw BadValue("\"\(text)\" is not a size: write for example 65536, 64KiB or 1MiB")
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: unit.bytes)
    guard !overflow else { throw BadValue("\"\(text)\" is too large") }
    return bytes
  }

  static func text(_ bytes: Int) -> String {
    for unit in units.dropFirst(2).reversed() where bytes >= unit.bytes {
      let value = Double(bytes) / Double(unit.bytes)
      return fixed(value, decimals: value < 100 ? 1 : 0) + " \(unit.suffix)"
    }
    return "\(bytes) B"
  }
}

/// `value` with a fixed number of decimals, rounded.
func fixed(_ value: Double, decimals: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var scale = 1
  for _ in 0..<decimals { scale *= 10 }
  let scaled = Int((abs(value) * Double(scale)).rounded())
  let sign = value < 0 && scaled > 0 ? "-" : ""
  guard decimals > 0 else { return "\(sign)\(scaled)" }
  let fraction = String(scaled % scale)
  let padding = String(repeating: "0", count: decimals - fraction.count)
  return "\(sign)\(scaled / scale).\(padding)\(fraction)"
}

/// Digits in groups of three, `1,234,567`, as tables show counts.
func grouped(_ value: Int) -> String {
  var text = ""
  let digits = String(value.magnitude)
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index).isMultiple(of: 3) { text += "," }
    text.append(digit)
  }
  return value < 0 ? "-" + text : text
}
