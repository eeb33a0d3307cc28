// The statements of a text that a person typed, found by the scanner that the node uses as well.

import Serving

/// The statements of a text, and what is left behind the last semicolon.
struct ScannedSQL: Equatable {
  /// Each with its semicolon, without white space around it; texts of only comments are left out.
  var statements: [String] = []
  /// Incomplete input; empty when only white space and comments follow the last statement.
  var rest = ""

  init(statements: [String] = [], rest: String = "") {
    self.statements = statements
    self.rest = rest
  }

  init(scanning text: String) {
    let bytes = Array(text.utf8)
    let found = bytes.withUnsafeBytes { StatementScanner.scan($0) }
    func part(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
    statements = found.statements.map(part)
    rest = found.rest.map(part) ?? ""
  }

  /// Whether a statement is about transactions: such texts are sent statement by statement.
  static func controlsTransaction(_ statement: String) -> Bool {
    let words = ["begin", "commit", "end", "rollback", "savepoint", "release"]
    return words.contains(StatementScanner.firstWords(of: SQLText(statement)).first ?? "")
  }
}
