// Finds where SQL statements end, without parsing them: semicolons outside of quotes, comments and
// trigger bodies. The time it takes is linear, and nothing is copied: what it finds are slices of
// the text.
// Source: the state machine of sqlite3_complete(), https://www.sqlite.org/c3ref/complete.html

import NIOCore

/// The statements of a text, as ranges of its bytes.
public struct ScannedStatements: Equatable, Sendable {
  /// Each with its semicolon, without white space around it; those that are only comments are left
  /// out.
  public var statements: [Range<Int>] = []
  /// What follows the last semicolon; nil when that is only white space and comments.
  public var rest: Range<Int>?
}

/// A linear scanner of SQL scripts.
public struct StatementScanner {
  private enum State { case start, normal, explain, create, trigger, triggerSemicolon, triggerEnd }
  private enum Word { case semicolon, other, explain, create, temp, trigger, end }

  private let bytes: UnsafeRawBufferPointer
  private var offset = 0
  private var wordStart = 0
  private var state = State.start
  private var statementStart = 0
  private var result = ScannedStatements()

  private init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// Finds the statements of `bytes`.
  public static func scan(_ bytes: UnsafeRawBufferPointer) -> ScannedStatements {
    var scanner = StatementScanner(bytes)
    return scanner.run()
  }

  /// The statements of a script; the last one may lack its semicolon. They lie in the memory of
  /// `script`.
  public static func statements(of script: SQLText) -> [SQLText] {
    let found = script.bytes.withUnsafeReadableBytes { scan($0) }
    let ranges = found.statements + (found.rest.map { [$0] } ?? [])
    return ranges.compactMap { range in
      script.bytes.getSlice(at: script.bytes.readerIndex + range.lowerBound, length: range.count)
        .map(SQLText.init(bytes:))
    }
  }

  /// The first words of a statement in lower case, without white space and comments.
  public static func firstWords(of text: SQLText, _ count: Int = 1) -> [String] {
    text.bytes.withUnsafeReadableBytes { bytes in
      var scanner = StatementScanner(bytes)
      var words: [String] = []
      while words.count < count, scanner.nextWord() != nil {
        let word = bytes[scanner.wordStart..<scanner.offset].prefix(32)
        words.append(String(decoding: word, as: UTF8.self).lowercased())
      }
      return words
    }
  }

  /// Whether nothing but white space, comments and semicolons are in `bytes`.
  public static func isBlank(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var scanner = StatementScanner(bytes)
    while let word = scanner.nextWord() {
      guard word == .semicolon else { return false }
    }
    return true
  }

  private mutating func run() -> ScannedStatements {
    while let word = nextWord() {
      let isEmpty = state == .start
      state = Self.next(state, word)
      if state == .start {
        if !isEmpty { result.statements.append(trimmed(statementStart..<offset)) }
        statementStart = offset
      }
    }
    if state != .start { result.rest = trimmed(statementStart..<bytes.count) }
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
    let word = UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
    switch word.count {
    case 3: return Self.equals(word, "end") ? .end : .other
    case 4: return Self.equals(word, "temp") ? .temp : .other
    case 6: return Self.equals(word, "create") ? .create : .other
    case 7:
      if Self.equals(word, "explain") { return .explain }
      return Self.equals(word, "trigger") ? .trigger : .other
    case 9: return Self.equals(word, "temporary") ? .temp : .other
    default: return .other
    }
  }

  private static func equals(_ word: UnsafeRawBufferPointer, _ known: StaticString) -> Bool {
    for at in 0..<word.count where word[at] | 0x20 != known.utf8Start[at] { return false }
    return true
  }

  private mutating func skipLineComment() {
    while offset < bytes.count, bytes[offset] != UInt8(ascii: "\n") { offset += 1 }
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
    offset += 1
    while offset < bytes.count, bytes[offset] != quote { offset += 1 }
    offset = min(offset + 1, bytes.count)
  }

  private func follows(_ mark: StaticString) -> Bool {
    offset + 1 < bytes.count && bytes[offset] == mark.utf8Start[0]
      && bytes[offset + 1] == mark.utf8Start[1]
  }

  private func trimmed(_ range: Range<Int>) -> Range<Int> {
    var (lower, upper) = (range.lowerBound, range.upperBound)
    while lower < upper, Self.isSpace(bytes[upper - 1]) { upper -= 1 }
    while lower < upper, Self.isSpace(bytes[lower]) { lower += 1 }
    return lower..<upper
  }

  /// Other control characters are tokens to SQLite, though none that it knows.
  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d) ~= byte }

  private static func isWordByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "$"), 0x80...0xff:
      true
    default: false
    }
  }
}
