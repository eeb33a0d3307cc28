// What SQLite says when a call fails, under the names its documentation uses.

import CSQLite

/// A failed SQLite call.
///
/// Source: https://www.sqlite.org/rescode.html
public struct SQLiteError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The extended result code.
  public var code: Int32
  public var message: String
  /// The byte of the SQL text that the message is about, where SQLite tells.
  public var offset: Int?

  public init(code: Int32, message: String, offset: Int? = nil) {
    self.code = code
    self.message = message
    self.offset = offset
  }

  init(_ database: OpaquePointer?, code: Int32) {
    self.code = code
    guard let database else {
      message = String(cString: sqlite3_errstr(code))
      return
    }
    message = String(cString: sqlite3_errmsg(database))
    let offset = sqlite3_error_offset(database)
    self.offset = offset >= 0 ? Int(offset) : nil
  }

  /// The eight low bits: the class of the error.
  public var primaryCode: Int32 { code & 0xff }
  public var name: String { Self.names[code] ?? Self.names[primaryCode] ?? "SQLITE_ERROR" }
  public var description: String { "\(name): \(message)" }

  public static let busy = SQLITE_BUSY
  public static let interrupted = SQLITE_INTERRUPT
  public static let full = SQLITE_FULL
  public static let protocolError = SQLITE_PROTOCOL
  public static let ioError = SQLITE_IOERR
  public static let corrupt = SQLITE_CORRUPT
  public static let denied = SQLITE_AUTH
  public static let notADatabase = SQLITE_NOTADB
  public static let cannotOpen = SQLITE_CANTOPEN

  /// True for the errors that say nothing about the request: the disk, the memory or another
  /// process is to blame.
  public var isEnvironmental: Bool {
    switch primaryCode {
    case SQLITE_BUSY, SQLITE_LOCKED, SQLITE_NOMEM, SQLITE_IOERR, SQLITE_FULL, SQLITE_CORRUPT,
      SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_NOTADB:
      true
    default: false
    }
  }

  private static let names: [Int32: String] = {
    var names: [Int32: String] = [
      SQLITE_ERROR: "SQLITE_ERROR", SQLITE_INTERNAL: "SQLITE_INTERNAL",
      SQLITE_PERM: "SQLITE_PERM", SQLITE_ABORT: "SQLITE_ABORT", SQLITE_BUSY: "SQLITE_BUSY",
      SQLITE_LOCKED: "SQLITE_LOCKED", SQLITE_NOMEM: "SQLITE_NOMEM",
      SQLITE_READONLY: "SQLITE_READONLY", SQLITE_INTERRUPT: "SQLITE_INTERRUPT",
      SQLITE_IOERR: "SQLITE_IOERR", SQLITE_CORRUPT: "SQLITE_CORRUPT",
      SQLITE_NOTFOUND: "SQLITE_NOTFOUND", SQLITE_FULL: "SQLITE_FULL",
      SQLITE_CANTOPEN: "SQLITE_CANTOPEN", SQLITE_PROTOCOL: "SQLITE_PROTOCOL",
      SQLITE_EMPTY: "SQLITE_EMPTY", SQLITE_SCHEMA: "SQLITE_SCHEMA",
      SQLITE_TOOBIG: "SQLITE_TOOBIG", SQLITE_CONSTRAINT: "SQLITE_CONSTRAINT",
      SQLITE_MISMATCH: "SQLITE_MISMATCH", SQLITE_MISUSE: "SQLITE_MISUSE",
      SQLITE_NOLFS: "SQLITE_NOLFS", SQLITE_AUTH: "SQLITE_AUTH", SQLITE_FORMAT: "SQLITE_FORMAT",
      SQLITE_RANGE: "SQLITE_RANGE", SQLITE_NOTADB: "SQLITE_NOTADB",
    ]
    func extended(_ base: Int32, _ entries: [(Int32, String)]) {
      guard let prefix = names[base] else { return }
      for (number, suffix) in entries { names[base | number << 8] = "\(prefix)_\(suffix)" }
    }
    extended(
      SQLITE_CONSTRAINT,
      [
        (1, "CHECK"), (2, "COMMITHOOK"), (3, "FOREIGNKEY"), (4, "FUNCTION"), (5, "NOTNULL"),
        (6, "PRIMARYKEY"), (7, "TRIGGER"), (8, "UNIQUE"), (9, "VTAB"), (10, "ROWID"),
        (11, "PINNED"), (12, "DATATYPE"),
      ])
    extended(SQLITE_BUSY, [(1, "RECOVERY"), (2, "SNAPSHOT"), (3, "TIMEOUT")])
    extended(SQLITE_LOCKED, [(1, "SHAREDCACHE"), (2, "VTAB")])
    extended(
      SQLITE_READONLY,
      [
        (1, "RECOVERY"), (2, "CANTLOCK"), (3, "ROLLBACK"), (4, "DBMOVED"), (5, "CANTINIT"),
        (6, "DIRECTORY"),
      ])
    extended(SQLITE_ERROR, [(1, "MISSING_COLLSEQ"), (2, "RETRY"), (3, "SNAPSHOT")])
    extended(SQLITE_CORRUPT, [(1, "VTAB"), (2, "SEQUENCE"), (3, "INDEX")])
    extended(SQLITE_ABORT, [(2, "ROLLBACK")])
    extended(
      SQLITE_IOERR,
      [
        (1, "READ"), (2, "SHORT_READ"), (3, "WRITE"), (4, "FSYNC"), (5, "DIR_FSYNC"),
        (6, "TRUNCATE"), (7, "FSTAT"), (8, "UNLOCK"), (9, "RDLOCK"), (10, "DELETE"),
        (12, "NOMEM"), (13, "ACCESS"), (15, "LOCK"), (16, "CLOSE"), (18, "SHMOPEN"),
        (19, "SHMSIZE"), (20, "SHMLOCK"), (21, "SHMMAP"), (32, "DATA"), (33, "CORRUPTFS"),
      ])
    return names
  }()
}

/// The SQLite library that this process runs with.
public enum SQLiteLibrary {
  /// For example `3.40.1`.
  public static var version: String { String(cString: sqlite3_libversion()) }
  public static var versionNumber: Int { Int(sqlite3_libversion_number()) }
}
