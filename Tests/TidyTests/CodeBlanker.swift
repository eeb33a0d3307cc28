// Tells code from comments and strings, well enough for the house rules. Regex literals are taken
// for code.

/// Replaces comments and the contents of strings by spaces; line ends stay. Code inside `\( )` is
/// code.
struct CodeBlanker {
  private enum Mode {
    /// Open parentheses; at a closing one too many, an interpolation ends.
    case code(parentheses: Int)
    case string(hashes: Int, isMultiline: Bool)
  }

  private let bytes: [UInt8]
  private var output: [UInt8]
  private var offset = 0
  private var modes = [Mode.code(parentheses: 0)]

  static func blanked(_ text: String) -> String {
    var blanker = CodeBlanker(Array(text.utf8))
    while blanker.offset < blanker.bytes.count { blanker.step() }
    return String(decoding: blanker.output, as: UTF8.self)
  }

  private init(_ bytes: [UInt8]) {
    self.bytes = bytes
    output = bytes
  }

  private mutating func step() {
    switch modes[modes.count - 1] {
    case .code(let parentheses): stepInCode(parentheses)
    case .string(let hashes, let isMultiline): stepInString(hashes, isMultiline)
    }
  }

  private mutating func stepInCode(_ parentheses: Int) {
    switch bytes[offset] {
    case UInt8(ascii: "/") where follows("//"): blankLine()
    case UInt8(ascii: "/") where follows("/*"): blankComment()
    case UInt8(ascii: "\""), UInt8(ascii: "#"):
      if !beginString() { offset += 1 }
    case UInt8(ascii: "("):
      modes[modes.count - 1] = .code(parentheses: parentheses + 1)
      offset += 1
    case UInt8(ascii: ")"):
      if parentheses == 0, modes.count > 1 {
        modes.removeLast()
        blank(1)
      } else {
        modes[modes.count - 1] = .code(parentheses: max(0, parentheses - 1))
        offset += 1
      }
    default: offset += 1
    }
  }

  private mutating func stepInString(_ hashes: Int, _ isMultiline: Bool) {
    // Most bytes mean nothing here, and are looked at once.
    switch bytes[offset] {
    case UInt8(ascii: "\""):
      let end = (isMultiline ? "\"\"\"" : "\"") + String(repeating: "#", count: hashes)
      guard follows(end) else { return blank(1) }
      modes.removeLast()
      blank(end.utf8.count)
    case UInt8(ascii: "\\"):
      let mark = "\\" + String(repeating: "#", count: hashes)
      guard follows(mark) else { return blank(1) }
      if follows(mark + "(") { modes.append(.code(parentheses: 0)) }
      blank(hashes + 2)
    case UInt8(ascii: "\n") where !isMultiline:
      // No string goes over a line end: this was none.
      modes.removeLast()
    default: blank(1)
    }
  }

  /// - Returns: false when no string begins here.
  private mutating func beginString() -> Bool {
    var hashes = 0
    while offset + hashes < bytes.count, bytes[offset + hashes] == UInt8(ascii: "#") { hashes += 1 }
    guard offset + hashes < bytes.count, bytes[offset + hashes] == UInt8(ascii: "\"") else {
      return false
    }
    blank(hashes)
    let isMultiline = follows("\"\"\"")
    blank(isMultiline ? 3 : 1)
    modes.append(.string(hashes: hashes, isMultiline: isMultiline))
    return true
  }

  private mutating func blankLine() {
    while offset < bytes.count, bytes[offset] != UInt8(ascii: "\n") { blank(1) }
  }

  private mutating func blankComment() {
    var depth = 0
    repeat {
      if follows("/*") {
        depth += 1
        blank(2)
      } else if follows("*/") {
        depth -= 1
        blank(2)
      } else {
        blank(1)
      }
    } while depth > 0 && offset < bytes.count
  }

  private mutating func blank(_ count: Int) {
    for _ in 0..<count where offset < bytes.count {
      if output[offset] != UInt8(ascii: "\n") { output[offset] = UInt8(ascii: " ") }
      offset += 1
    }
  }

  private func follows(_ text: String) -> Bool {
    bytes[offset...].starts(with: text.utf8)
  }
}
