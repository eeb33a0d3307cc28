// Finds functions and how long they are, by counting braces.

/// A function, an initializer or a deinitializer, from its first line to its closing brace.
struct FunctionSpan {
  var name: String
  var firstLine: Int
  var lineCount: Int

  /// The functions with a body in `file`; those inside of others count twice.
  static func all(in file: SourceFile) -> [FunctionSpan] {
    var spans: [FunctionSpan] = []
    for (index, line) in file.code.enumerated() {
      guard let name = declaredName(in: line), let last = lastLine(of: file.code[index...]) else {
        continue
      }
      spans.append(
        FunctionSpan(name: name, firstLine: index + 1, lineCount: last - index + 1))
    }
    return spans
  }

  private static func declaredName(in line: Substring) -> String? {
    guard ["func ", "init", "deinit"].contains(where: line.contains) else { return nil }
    if let match = line.firstMatch(of: /\bfunc\s+([^\s(<]+)/) { return String(match.1) }
    if line.contains(/(^|\s)init[?!]?\s*[(<]/) { return "init" }
    return line.contains(/^\s*deinit\b/) ? "deinit" : nil
  }

  /// - Returns: nil when a declaration has no body, as in a protocol.
  private static func lastLine(of code: ArraySlice<Substring>) -> Int? {
    var parentheses = 0
    var braces = 0
    for (index, line) in zip(code.indices, code) {
      if braces == 0, parentheses == 0, index > code.startIndex, startsAnother(line) { return nil }
      for byte in line.utf8 {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: "["): parentheses += 1
        case UInt8(ascii: ")"), UInt8(ascii: "]"): parentheses -= 1
        case UInt8(ascii: "{"): braces += 1
        case UInt8(ascii: "}"):
          braces -= 1
          if braces < 0 { return nil }
          if braces == 0, parentheses == 0 { return index }
        default: break
        }
      }
    }
    return nil
  }

  private static func startsAnother(_ line: Substring) -> Bool {
    line.contains(
      /^\s*(public |private |static |mutating |@|func |init|var |let |case |associatedtype )/)
  }
}
