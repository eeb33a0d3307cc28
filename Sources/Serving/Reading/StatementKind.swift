// What has to be done with a statement: run it here, give it to the primary, or change the session.
// SQLite's compiler decides, by what its authorizer was asked and by whether the program writes;
// the text is not searched.

import Store

/// What a statement asks of a session.
public enum StatementKind: Equatable, Sendable {
  case read
  case write
  case begin(isImmediate: Bool)
  case commit
  case rollback
  case savepoint(String)
  case release(String)
  case rollbackTo(String)
  /// `PRAGMA foreign_keys`, which belongs to the session and not to the connection that runs it.
  case setForeignKeys(Bool)
  case foreignKeys

  /// Judges a compiled statement.
  public init(_ statement: Statement, sql: SQLText) {
    let facts = statement.facts
    if statement.isExplain {
      self = .read
    } else if let transaction = facts.transaction {
      switch transaction {
      case .begin: self = .begin(isImmediate: Self.beginsImmediately(statement, sql))
      case .commit: self = .commit
      case .rollback: self = .rollback
      }
    } else if let savepoint = facts.savepoint {
      let name = facts.savepointName ?? ""
      switch savepoint {
      case .begin: self = .savepoint(name)
      case .release: self = .release(name)
      case .rollback: self = .rollbackTo(name)
      }
    } else if let pragma = facts.pragma {
      self = Self.pragma(pragma, facts.pragmaArgument, isReadOnly: statement.isReadOnly)
    } else {
      self = statement.isReadOnly ? .read : .write
    }
  }

  /// Whether the statement is about transactions, and so cannot be part of a batch.
  public var controlsTransaction: Bool {
    switch self {
    case .begin, .commit, .rollback, .savepoint, .release, .rollbackTo: true
    case .read, .write, .setForeignKeys, .foreignKeys: false
    }
  }

  /// BEGIN IMMEDIATE opens a write transaction, but not in the program of a connection that may not
  /// write. There the second word tells: the grammar has one place for it.
  private static func beginsImmediately(_ statement: Statement, _ sql: SQLText) -> Bool {
    guard statement.isReadOnly else { return true }
    let words = StatementScanner.firstWords(of: sql, 2)
    return words.count == 2 && ["immediate", "exclusive"].contains(words[1])
  }

  private static func pragma(
    _ name: String, _ argument: String?, isReadOnly: Bool
  ) -> StatementKind {
    switch (name, argument) {
    case ("foreign_keys", let argument?): return .setForeignKeys(isTrue(argument))
    case ("foreign_keys", nil): return .foreignKeys
    // It asks for the mode only: a value is refused. SQLite calls the program a writing one
    // nevertheless.
    case ("journal_mode", _): return .read
    // They act on the transaction that runs next, or on the statistics.
    case ("defer_foreign_keys", _?), ("optimize", _): return .write
    default: return isReadOnly ? .read : .write
    }
  }

  /// As SQLite reads a boolean. Source: https://www.sqlite.org/pragma.html
  private static func isTrue(_ argument: String) -> Bool {
    if let first = argument.utf8.first, first >= 0x30, first <= 0x39 {
      return (Int(argument.prefix { $0.isNumber }) ?? 1) != 0
    }
    return ["on", "yes", "true"].contains(argument.lowercased())
  }

  /// Statements of these words may be right even if they cannot be compiled here: a table may not
  /// be here yet, or the statement before makes it. The primary judges them.
  private static let wordsOfWrites: Set<String> = [
    "alter", "analyze", "create", "delete", "drop", "insert", "reindex", "replace", "update",
    "vacuum",
  ]
  private static let wordsOfControl: Set<String> = [
    "begin", "commit", "end", "release", "rollback", "savepoint",
  ]

  /// What a statement must be taken for that cannot be compiled here; nil when no node could
  /// compile it, or when it is a read, which waits for its token and is tried again.
  public static func ofUncompiled(_ sql: SQLText) -> StatementKind? {
    guard let word = StatementScanner.firstWords(of: sql).first else { return nil }
    return wordsOfWrites.contains(word) ? .write : nil
  }

  /// The same for a statement of a long batch, of which not all are compiled here: nil when the
  /// first word does not tell that it reads.
  static func byFirstWord(_ sql: SQLText) -> StatementKind? {
    guard let word = StatementScanner.firstWords(of: sql).first else { return .read }
    if wordsOfControl.contains(word) { return .commit }
    return ["select", "values", "explain"].contains(word) ? .read : nil
  }
}
