// One SQLite connection. It belongs to one thread at a time; only `interrupt()` may be called from
// others.

import CSQLite
import WALShip

/// A connection to a database file.
///
/// Source: https://www.sqlite.org/c3ref/sqlite3.html
public final class Connection {
  public enum Mode: Sendable { case readOnly, readWrite, create }

  let handle: OpaquePointer
  private let authorizer = AuthorizerContext()
  private var budget: StatementBudget?
  private var committedFrames: UInt32 = 0

  /// Opens the file; nothing is read yet.
  ///
  /// - Throws: `SQLITE_CANTOPEN` when the file is missing or not readable.
  public init(path: String, mode: Mode) throws(SQLiteError) {
    let access =
      switch mode {
      case .readOnly: SQLITE_OPEN_READONLY
      case .readWrite: SQLITE_OPEN_READWRITE
      case .create: SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
      }
    var handle: OpaquePointer?
    let code = sqlite3_open_v2(
      path, &handle, access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nil)
    guard code == SQLITE_OK, let handle else {
      let error = SQLiteError(handle, code: code)
      sqlite3_close(handle)
      throw error
    }
    self.handle = handle
    harden()
    installAuthorizer(authorizer, on: handle)
  }

  deinit {
    sqlite3_progress_handler(handle, 0, nil, nil)
    sqlite3_close_v2(handle)
  }

  // MARK: Statements

  /// What the statements compiled from now on may do.
  public var policy: AuthorizerPolicy {
    get { authorizer.policy }
    set { authorizer.policy = newValue }
  }

  /// Compiles the first statement of `sql`.
  ///
  /// - Returns: the statement, nil when the text holds none (white space, a comment), and how many
  ///   bytes were read.
  public func prepare(
    _ sql: UnsafeRawBufferPointer, persistent: Bool = false
  ) throws(SQLiteError) -> (statement: Statement?, bytesRead: Int) {
    guard let base = sql.baseAddress, !sql.isEmpty else { return (nil, 0) }
    authorizer.facts = StatementFacts()
    var pointer: OpaquePointer?
    var tail: UnsafePointer<CChar>?
    let text = base.assumingMemoryBound(to: CChar.self)
    let code = sqlite3_prepare_v3(
      handle, text, Int32(clamping: sql.count),
      persistent ? UInt32(SQLITE_PREPARE_PERSISTENT) : 0, &pointer, &tail)
    guard code == SQLITE_OK else {
      var error = SQLiteError(handle, code: code)
      if let refusal = authorizer.facts.refusal { error.message = refusal }
      throw error
    }
    let bytesRead = tail.map { $0 - text } ?? sql.count
    guard let pointer else { return (nil, bytesRead) }
    return (Statement(handle: pointer, database: handle, facts: authorizer.facts), bytesRead)
  }

  public func prepare(_ sql: String) throws(SQLiteError) -> Statement {
    let result: Result<Statement, SQLiteError> = Array(sql.utf8).withUnsafeBytes { bytes in
      do throws(SQLiteError) {
        guard let statement = try prepare(bytes).statement else {
          return .failure(SQLiteError(code: SQLITE_MISUSE, message: "no statement"))
        }
        return .success(statement)
      } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// Runs SQL of the engine's own, without results.
  public func execute(_ sql: String) throws(SQLiteError) {
    let code = sqlite3_exec(handle, sql, nil, nil, nil)
    guard code == SQLITE_OK else { throw SQLiteError(handle, code: code) }
  }

  /// Runs a query of the engine's own and returns all rows.
  public func query(_ sql: String, _ arguments: [Value] = []) throws(SQLiteError) -> [[Value]] {
    let statement = try prepare(sql)
    for (index, value) in arguments.enumerated() { try statement.bind(value, at: index + 1) }
    var rows: [[Value]] = []
    while try statement.step() { rows.append(statement.row) }
    return rows
  }

  public func queryInteger(_ sql: String) throws(SQLiteError) -> Int64? {
    guard case .integer(let number)? = try query(sql).first?.first else { return nil }
    return number
  }

  /// Why the authorizer refused what the last statement wanted, also while it ran.
  public var refusal: String? { authorizer.facts.refusal }

  /// Whether the last statement was refused for a TEMP object, which `ownConnection` would allow.
  public var refusedTemporaryObject: Bool {
    authorizer.facts.refusal != nil && authorizer.facts.usesTemporaryObjects
  }

  // MARK: State

  public var isAutocommit: Bool { sqlite3_get_autocommit(handle) != 0 }
  public var changes: Int64 { sqlite3_changes64(handle) }
  public var totalChanges: Int64 { sqlite3_total_changes64(handle) }
  public var lastInsertRowid: Int64 {
    get { sqlite3_last_insert_rowid(handle) }
    set { sqlite3_set_last_insert_rowid(handle, newValue) }
  }

  /// The thread-safe way to stop what runs.
  public var interrupter: Interrupter { Interrupter(handle: handle) }

  /// Lets statements run until `budget` says stop; they then fail with `SQLITE_INTERRUPT`.
  public func limit(_ budget: StatementBudget?) {
    self.budget = budget
    guard let budget else {
      sqlite3_progress_handler(handle, 0, nil, nil)
      return
    }
    sqlite3_progress_handler(
      handle, budget.instructionsPerCheck,
      { pointer in
        guard let pointer else { return 1 }
        return Unmanaged<StatementBudget>.fromOpaque(pointer).takeUnretainedValue().isSpent()
          ? 1 : 0
      }, Unmanaged.passUnretained(budget).toOpaque())
  }

  /// Runs `body` with what VACUUM needs: it attaches a nameless file of its own.
  public func allowingVacuum<T, E: Error>(_ body: () throws(E) -> T) throws(E) -> T {
    authorizer.vacuuming = true
    sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 2)
    defer {
      authorizer.vacuuming = false
      sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0)
    }
    return try body()
  }

  // MARK: Write-ahead log

  /// The connection leaves checkpoints, and the removal of the WAL, to the engine.
  public func keepLog() {
    sqlite3_wal_autocheckpoint(handle, 0)
    _ = edge_db_config_int(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nil)
    var persist: Int32 = 1
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist)
  }

  /// The connection looks at pages alone: where the schema is damaged, that must not keep it from
  /// finding out which page it is.
  ///
  /// Source: https://www.sqlite.org/pragma.html#pragma_writable_schema
  func ignoreSchema() { _ = edge_db_config_int(handle, SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1, nil) }
  /// Reads from the database, and so opens a snapshot, without a look at its schema.
  static let snapshotProbe = "PRAGMA user_version"

  /// Keeps track for `takeCommittedFrames()`. It takes the one hook that automatic checkpoints
  /// would use.
  ///
  /// Source: https://www.sqlite.org/c3ref/wal_hook.html
  public func countFrames() {
    sqlite3_wal_hook(
      handle,
      { pointer, _, _, frames in
        guard let pointer else { return SQLITE_OK }
        Unmanaged<Connection>.fromOpaque(pointer).takeUnretainedValue().committedFrames =
          UInt32(clamping: frames)
        return SQLITE_OK
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  /// The last frame of the WAL that this connection committed since the last call; nil when it
  /// committed none.
  public func takeCommittedFrames() -> UInt32? {
    defer { committedFrames = 0 }
    return committedFrames > 0 ? committedFrames : nil
  }

  /// SQLite's own handle of the database file. Never open the file a second time in this process:
  /// closing that descriptor would drop every POSIX lock that SQLite holds on it.
  func mainFile() throws(SQLiteError) -> UnsafeMutablePointer<sqlite3_file> {
    var file: UnsafeMutablePointer<sqlite3_file>?
    let code = sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file)
    guard code == SQLITE_OK, let file else { throw SQLiteError(handle, code: code) }
    return file
  }

  // MARK: Settings

  public func setBusyTimeout(milliseconds: Int) {
    sqlite3_busy_timeout(handle, Int32(clamping: milliseconds))
  }

  /// Waits for locks in short steps, so that a writer among busy programs gets its turn: SQLite's
  /// own timeout sleeps up to a tenth of a second between tries.
  public func waitForLocks(milliseconds: Int) {
    let steps = milliseconds * 1000 / Self.lockStepMicroseconds
    sqlite3_busy_handler(
      handle,
      { pointer, tries in
        guard Int(tries) < Int(bitPattern: pointer) else { return 0 }
        pauseThread(microseconds: Connection.lockStepMicroseconds)
        return 1
      }, UnsafeMutableRawPointer(bitPattern: steps))
  }
  private static let lockStepMicroseconds = 500

  /// Least privilege for every connection. Source: https://www.sqlite.org/security.html
  private func harden() {
    for option in [SQLITE_DBCONFIG_DEFENSIVE] { _ = edge_db_config_int(handle, option, 1, nil) }
    for option in [
      SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_DQS_DML, SQLITE_DBCONFIG_DQS_DDL,
      SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION,
    ] { _ = edge_db_config_int(handle, option, 0, nil) }
    _ = edge_db_config_int(handle, SQLITE_DBCONFIG_ENABLE_FKEY, 1, nil)
    let limits: [(Int32, Int32)] = [
      (SQLITE_LIMIT_ATTACHED, 0), (SQLITE_LIMIT_LENGTH, 16 << 20),
      (SQLITE_LIMIT_SQL_LENGTH, 1 << 20), (SQLITE_LIMIT_EXPR_DEPTH, 200),
      (SQLITE_LIMIT_COMPOUND_SELECT, 100), (SQLITE_LIMIT_VARIABLE_NUMBER, 32766),
      (SQLITE_LIMIT_TRIGGER_DEPTH, 100), (SQLITE_LIMIT_WORKER_THREADS, 0),
    ]
    for (limit, value) in limits { sqlite3_limit(handle, limit, value) }
  }
}

/// Stops the running statement of a connection; may be used from any thread while the connection
/// lives.
public struct Interrupter: @unchecked Sendable {  // sqlite3_interrupt is documented as thread-safe
  let handle: OpaquePointer
  public func interrupt() { sqlite3_interrupt(handle) }
}

/// How long the statements of a connection may run; asked every `instructionsPerCheck` virtual
/// instructions.
public final class StatementBudget {
  public let instructionsPerCheck: Int32
  /// Checks left in the present run; nil for no limit by count.
  public var checksLeft: Int?
  /// The end of the present run on the monotonic clock, in nanoseconds; nil for no limit by time.
  public var deadlineNanoseconds: UInt64?
  /// Whether nobody wants the results any more. `Interrupter` does nothing between two statements.
  public var isCancelled: (() -> Bool)?
  /// True once the budget stopped a statement.
  public private(set) var wasSpent = false

  public init(instructionsPerCheck: Int32 = 1000) {
    self.instructionsPerCheck = instructionsPerCheck
  }

  public func renew(checks: Int?, deadlineNanoseconds: UInt64? = nil) {
    checksLeft = checks
    self.deadlineNanoseconds = deadlineNanoseconds
    wasSpent = false
  }

  func isSpent() -> Bool {
    if let left = checksLeft {
      checksLeft = left - 1
      if left <= 0 { wasSpent = true }
    }
    if let deadlineNanoseconds, monotonicNanoseconds() >= deadlineNanoseconds { wasSpent = true }
    if let isCancelled, isCancelled() { wasSpent = true }
    return wasSpent
  }
}
