// Finds where SQL statements end, without parsing them: semicolons outside of quotes, comments and
// trigger bodies.
// Source: the state machine of sqlite3_complete(), https://www.sqlite.org/c3ref/complete.html

/// The statements of a text, and what is left behind the last semicolon.
struct ScannedSQL: Equatable {
  /// Each with its semicolon, without white space around it; texts of only comments are left out.
  var statements: [String] = []
  /// Incomplete input; empty when only white space and comments follow the last statement.
  var rest = ""
}

struct StatementScanner {
  private enum State { case start, normal, explain, create, trigger, triggerSemicolon, triggerEnd }
  private enum Word { case semicolon, other, explain, create, temp, trigger, end }

  private let bytes: [UInt8]
  private var offset = 0
  private var wordStart = 0
  private var state = State.start
  private var statementStart = 0
  private var result = ScannedSQL()

  static func scan(_ text: String) -> ScannedSQL {
    var scanner = StatementScanner(bytes: Array(text.utf8))
    return scanner.run()
  }

  /// The first word of a statement in lower case, behind white space and comments.
  static func firstWord(of statement: String) -> String {
    var scanner = StatementScanner(bytes: Array(statement.utf8))
    guard scanner.nextWord() != nil else { return "" }
    let word = scanner.bytes[scanner.wordStart..<scanner.offset]
    return String(decoding: word, as: UTF8.self).lowercased()
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private mutating func run() -> ScannedSQL {
    while let word = nextWord() {
      let isEmpty = state == .start
      state = Self.next(state, word)
      if state == .start {
        if !isEmpty { result.statements.append(text(statementStart..<offset)) }
        statementStart = offset
      }
    }
    if state != .start { result.rest = text(statementStart..<bytes.count) }
    return result
  }

  private static func next(_ state: State, _ word: Word) -> State {
    switch (state, word) {
    case (.start, .semicolon), (.normal, .semicolon), (.explain, .semicolon),
      (.create, .semicolon), (.triggerEnd, .semicolon):
      .start
    case (.trigger, .semicolon), (.triggerSemicolon, .semicolon): .triggerSemicolon
    case (.start, .explain): .explain
    case (.start, .create), (.explain, .create): .create
    case (.create, .temp): .create
    case (.create, .trigger): .trigger
    case (.triggerSemicolon, .end): .triggerEnd
    case (.trigger, _), (.triggerSemicolon, _), (.triggerEnd, _): .trigger
    // EXPLAIN QUERY PLAN CREATE TRIGGER …: the words between keep the state.
    case (.explain, .other): .explain
    case (.start, _), (.normal, _), (.explain, _), (.create, _): .normal
    }
  }

  /// Goes past white space and comments, and past one word.
  private mutating func nextWord() -> Word? {
    while offset < bytes.count {
      let byte = bytes[offset]
      wordStart = offset
      switch byte {
      case UInt8(ascii: ";"):
        offset += 1
        return .semicolon
      case 0x20, 0x09...0x0d: offset += 1
      case UInt8(ascii: "-") where follows("--"): skipLineComment()
      case UInt8(ascii: "/") where follows("/*"):
        // An open comment makes the statement incomplete, as an open string does.
        if !skipBlockComment() { return .other }
      case UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "`"):
        skipQuoted(closing: byte)
        return .other
      case UInt8(ascii: "["):
        skipQuoted(closing: UInt8(ascii: "]"))
        return .other
      case _ where Self.isWordByte(byte): return takeWord()
      default:
        offset += 1
        return .other
      }
    }
    return nil
  }

  private mutating func takeWord() -> Word {
    let start = offset
    while offset < bytes.count, Self.isWordByte(bytes[offset]) { offset += 1 }
    guard offset - start <= 9 else { return .other }
    switch String(decoding: bytes[start..<offset], as: UTF8.self).lowercased() {
    case "explain": return .explain
    case "create": return .create
    case "temp", "temporary": return .temp
    case "trigger": return .trigger
    case "end": return .end
    default: return .other
    }
  }

  private mutating func skipLineComment() {
    offset = bytes[offset...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
  }

  /// - Returns: false when the comment has no end.
  private mutating func skipBlockComment() -> Bool {
    offset += 2
    while offset < bytes.count, !follows("*/") { offset += 1 }
    let isClosed = offset < bytes.count
    offset = min(offset + 2, bytes.count)
    return isClosed
  }

  private mutating func skipQuoted(closing quote: UInt8) {
    let end = bytes[(offset + 1)...].firstIndex(of: quote)
    if let end {
      offset = end + 1
    } else {
      offset = bytes.count
    }
  }

  private func follows(_ mark: StaticString) -> Bool {
    offset + 1 < bytes.count && bytes[offset] == mark.utf8Start[0]
      && bytes[offset + 1] == mark.utf8Start[1]
  }

  private func text(_ range: Range<Int>) -> String {
    var slice = bytes[range]
    while let last = slice.last, last <= 32 { slice.removeLast() }
    while let first = slice.first, first <= 32 { slice.removeFirst() }
    return String(decoding: slice, as: UTF8.self)
  }

  private static func isWordByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "$"), 0x80...0xff:
      true
    default: false
    }
  }
}

extension ScannedSQL {
  /// Whether a statement is about transactions: such texts are sent statement by statement.
  static func controlsTransaction(_ statement: String) -> Bool {
    let words = ["begin", "commit", "end", "rollback", "savepoint", "release"]
    return words.contains(StatementScanner.firstWord(of: statement))
  }
}
