// What a statement may do, decided by SQLite's own compiler and not by looking at the text.

import CSQLite

/// What the authorizer saw while a statement was compiled.
public struct StatementFacts: Equatable, Sendable {
  public enum TransactionControl: Equatable, Sendable { case begin, commit, rollback }
  public enum SavepointControl: Equatable, Sendable { case begin, release, rollback }

  public var transaction: TransactionControl?
  public var savepoint: SavepointControl?
  public var savepointName: String?
  public var isPragma = false
  /// The name of the pragma in lower case, and the value that it was given.
  public var pragma: String?
  public var pragmaArgument: String?
  /// `PRAGMA foreign_keys = …`, which changes the connection and not the database.
  public var setsForeignKeys = false
  /// An INSERT into a table of the database, so that `last_insert_rowid()` has a meaning.
  public var inserts = false
  /// Inserts, updates or deletes rows of a table.
  public var modifiesRows = false
  /// Uses TEMP objects, which belong to one connection.
  public var usesTemporaryObjects = false
  /// Calls `count()`, which can walk a whole table in one virtual instruction, where no budget
  /// stops it.
  public var countsRows = false
  /// Reads a table, and not only constants.
  public var readsTables = false
  /// Changes the schema: such a statement is never kept compiled.
  public var changesSchema = false
  /// Why the statement was refused, if it was.
  public var refusal: String?

  public init() {}
}

/// What the statements of a connection may do.
public enum AuthorizerPolicy: Sendable {
  /// Everything: the engine's own statements.
  case engine
  /// What clients may do. Whether a statement writes is judged by `Statement.isReadOnly`.
  case client
  /// The same, on a connection that one client alone uses: TEMP objects are allowed.
  case ownConnection
}

/// The callback's memory: one for each connection.
final class AuthorizerContext {
  var policy = AuthorizerPolicy.engine
  var facts = StatementFacts()
  /// Set while a VACUUM runs: SQLite then attaches a nameless file of its own.
  var vacuuming = false

  /// Judges one action. Source: https://www.sqlite.org/c3ref/c_alter_table.html
  ///
  /// - Parameter isNested: it is a trigger or a view that wants it.
  func judge(
    _ action: Int32, _ first: String?, _ second: String?, _ schema: String?, isNested: Bool
  ) -> Int32 {
    note(action, first, second, schema, isNested: isNested)
    guard policy != .engine else { return SQLITE_OK }
    switch action {
    case SQLITE_ATTACH:
      if vacuuming, first?.isEmpty ?? true { return SQLITE_OK }
      return refuse("ATTACH and VACUUM INTO are not allowed")
    case SQLITE_DETACH:
      return vacuuming ? SQLITE_OK : refuse("DETACH is not allowed")
    case SQLITE_FUNCTION:
      guard let name = second?.lowercased(), Self.deniedFunctions.contains(name) else {
        return SQLITE_OK
      }
      return refuse("the function \(name) is not allowed")
    case SQLITE_PRAGMA:
      return judgePragma((first ?? "").lowercased(), argument: second)
    case SQLITE_CREATE_TEMP_TABLE, SQLITE_CREATE_TEMP_INDEX, SQLITE_CREATE_TEMP_TRIGGER,
      SQLITE_CREATE_TEMP_VIEW:
      guard policy == .client else { return SQLITE_OK }
      return refuse("temporary objects are not available in this session")
    case SQLITE_CREATE_VTABLE:
      guard let module = second?.lowercased(), Self.allowedModules.contains(module) else {
        return refuse("the virtual table module \(second ?? "") is not allowed")
      }
      return SQLITE_OK
    default:
      return SQLITE_OK
    }
  }

  private func note(
    _ action: Int32, _ first: String?, _ second: String?, _ schema: String?, isNested: Bool
  ) {
    switch action {
    case SQLITE_TRANSACTION:
      switch first {
      case "BEGIN": facts.transaction = .begin
      case "COMMIT": facts.transaction = .commit
      default: facts.transaction = .rollback
      }
    case SQLITE_SAVEPOINT:
      switch first {
      case "BEGIN": facts.savepoint = .begin
      case "RELEASE": facts.savepoint = .release
      default: facts.savepoint = .rollback
      }
      facts.savepointName = second
    case SQLITE_PRAGMA:
      facts.isPragma = true
      facts.pragma = first?.lowercased()
      facts.pragmaArgument = second
      if second != nil, first?.lowercased() == "foreign_keys" { facts.setsForeignKeys = true }
    case SQLITE_INSERT, SQLITE_UPDATE, SQLITE_DELETE:
      switch schema {
      case "main": guard first != "sqlite_master" else { return }
      case "temp": guard first != "sqlite_temp_master" else { return }
      default: return
      }
      facts.modifiesRows = true
      if action == SQLITE_INSERT, !isNested { facts.inserts = true }
    case SQLITE_FUNCTION:
      if second?.lowercased() == "count" { facts.countsRows = true }
    case SQLITE_CREATE_TEMP_TABLE, SQLITE_CREATE_TEMP_INDEX, SQLITE_CREATE_TEMP_TRIGGER,
      SQLITE_CREATE_TEMP_VIEW, SQLITE_DROP_TEMP_TABLE:
      facts.usesTemporaryObjects = true
    case SQLITE_CREATE_TABLE, SQLITE_CREATE_INDEX, SQLITE_CREATE_TRIGGER, SQLITE_CREATE_VIEW,
      SQLITE_CREATE_VTABLE, SQLITE_DROP_TABLE, SQLITE_DROP_INDEX, SQLITE_DROP_TRIGGER,
      SQLITE_DROP_VIEW, SQLITE_DROP_VTABLE, SQLITE_ALTER_TABLE, SQLITE_REINDEX, SQLITE_ANALYZE:
      facts.changesSchema = true
    default: break
    }
  }

  private func judgePragma(_ name: String, argument: String?) -> Int32 {
    if Self.readablePragmas.contains(name), argument == nil { return SQLITE_OK }
    if Self.pragmasWithArgument.contains(name) { return SQLITE_OK }
    return refuse(
      argument == nil
        ? "PRAGMA \(name) is not allowed" : "PRAGMA \(name) with a value is not allowed")
  }

  private func refuse(_ reason: String) -> Int32 {
    if facts.refusal == nil { facts.refusal = reason }
    return SQLITE_DENY
  }

  private static let deniedFunctions: Set<String> = [
    "load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "sqlite_log",
  ]
  private static let allowedModules: Set<String> = [
    "fts3", "fts4", "fts5", "fts4aux", "fts5vocab", "rtree", "rtree_i32", "geopoly",
  ]
  private static let readablePragmas: Set<String> = [
    "application_id", "auto_vacuum", "collation_list", "compile_options", "data_version",
    "defer_foreign_keys", "encoding", "foreign_keys", "freelist_count", "function_list",
    "incremental_vacuum", "integrity_check", "journal_mode", "module_list", "optimize",
    "page_count", "page_size", "pragma_list", "quick_check", "read_uncommitted", "schema_version",
    "synchronous", "table_list", "user_version", "foreign_key_check", "recursive_triggers",
  ]
  private static let pragmasWithArgument: Set<String> = [
    "application_id", "defer_foreign_keys", "foreign_key_check", "foreign_key_list",
    "foreign_keys", "incremental_vacuum", "index_info", "index_list", "index_xinfo",
    "integrity_check", "optimize", "quick_check", "table_info", "table_list", "table_xinfo",
    "user_version",
  ]
}

/// Trampoline from C; the context is the connection's `AuthorizerContext`, alive as long as the
/// connection.
func installAuthorizer(_ context: AuthorizerContext, on database: OpaquePointer) {
  sqlite3_set_authorizer(
    database,
    { pointer, action, first, second, schema, inner in
      guard let pointer else { return SQLITE_DENY }
      let context = Unmanaged<AuthorizerContext>.fromOpaque(pointer).takeUnretainedValue()
      func text(_ bytes: UnsafePointer<CChar>?) -> String? { bytes.map { String(cString: $0) } }
      switch action {
      case SQLITE_READ:
        context.facts.readsTables = true
        return SQLITE_OK
      case SQLITE_SELECT, SQLITE_RECURSIVE: return SQLITE_OK
      default:
        return context.judge(
          action, text(first), text(second), text(schema), isNested: inner != nil)
      }
    }, Unmanaged.passUnretained(context).toOpaque())
}
