// One prepared statement. It belongs to the thread of its connection.

import CSQLite
import WALShip

/// A prepared statement: bind, step, read columns, reset.
///
/// Source: https://www.sqlite.org/c3ref/stmt.html
public final class Statement {
  let handle: OpaquePointer
  private let database: OpaquePointer
  /// What the authorizer saw while this statement was compiled.
  public let facts: StatementFacts
  public let isReadOnly: Bool
  public let parameterCount: Int

  init(handle: OpaquePointer, database: OpaquePointer, facts: StatementFacts) {
    self.handle = handle
    self.database = database
    self.facts = facts
    isReadOnly = sqlite3_stmt_readonly(handle) != 0
    parameterCount = Int(sqlite3_bind_parameter_count(handle))
  }

  deinit { sqlite3_finalize(handle) }

  // MARK: Parameters

  public func bind(_ value: Value, at index: Int) throws(SQLiteError) {
    let position = Int32(index)
    let code: Int32
    switch value {
    case .null: code = sqlite3_bind_null(handle, position)
    case .integer(let number): code = sqlite3_bind_int64(handle, position, number)
    case .real(let number): code = sqlite3_bind_double(handle, position, number)
    case .text(var text):
      code = text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) {
          edge_bind_text_transient(handle, position, $0.baseAddress ?? Self.empty, UInt64($0.count))
        }
      }
    case .malformedText(let bytes):
      code = bytes.withUnsafeBufferPointer { buffer in
        buffer.withMemoryRebound(to: CChar.self) {
          edge_bind_text_transient(handle, position, $0.baseAddress ?? Self.empty, UInt64($0.count))
        }
      }
    case .blob(let bytes):
      code = bytes.withUnsafeBytes {
        $0.isEmpty
          ? sqlite3_bind_zeroblob(handle, position, 0)
          : edge_bind_blob_transient(handle, position, $0.baseAddress, UInt64($0.count))
      }
    }
    guard code == SQLITE_OK else { throw SQLiteError(database, code: code) }
  }

  /// The index of a named parameter: `name` comes with its prefix or without.
  public func parameterIndex(named name: String) -> Int? {
    if let first = name.utf8.first, first == 0x3a || first == 0x40 || first == 0x24 {
      let index = sqlite3_bind_parameter_index(handle, name)
      return index > 0 ? Int(index) : nil
    }
    for prefix in [":", "@", "$"] {
      let index = sqlite3_bind_parameter_index(handle, prefix + name)
      if index > 0 { return Int(index) }
    }
    return nil
  }

  public func parameterName(at index: Int) -> String? {
    sqlite3_bind_parameter_name(handle, Int32(index)).map { String(cString: $0) }
  }

  // MARK: Running

  /// Goes to the next row.
  ///
  /// - Returns: true when there is a row, false when the statement is done.
  /// - Throws: the error of the statement; `reset()` makes it usable again.
  public func step() throws(SQLiteError) -> Bool {
    let code = sqlite3_step(handle)
    switch code {
    case SQLITE_ROW: return true
    case SQLITE_DONE: return false
    default: throw SQLiteError(database, code: sqlite3_extended_errcode(database))
    }
  }

  /// Ends the run and forgets the arguments; errors of the run were thrown by `step()` already.
  public func reset() {
    sqlite3_reset(handle)
    if parameterCount > 0 { sqlite3_clear_bindings(handle) }
  }

  // MARK: Columns

  public var columnCount: Int { Int(sqlite3_column_count(handle)) }

  public func columnName(_ column: Int) -> String {
    sqlite3_column_name(handle, Int32(column)).map { String(cString: $0) } ?? ""
  }

  public func columnDeclaredType(_ column: Int) -> String? {
    sqlite3_column_decltype(handle, Int32(column)).map { String(cString: $0) }
  }

  public var columnNames: [String] { (0..<columnCount).map(columnName) }
  public var columnDeclaredTypes: [String?] { (0..<columnCount).map(columnDeclaredType) }

  /// How often SQLite compiled this statement anew because the schema had changed.
  public var recompilations: Int {
    Int(sqlite3_stmt_status(handle, SQLITE_STMTSTATUS_REPREPARE, 0))
  }

  public enum ColumnType { case null, integer, real, text, blob }

  public func columnType(_ column: Int) -> ColumnType {
    switch sqlite3_column_type(handle, Int32(column)) {
    case SQLITE_INTEGER: .integer
    case SQLITE_FLOAT: .real
    case SQLITE_TEXT: .text
    case SQLITE_BLOB: .blob
    default: .null
    }
  }

  public func integer(_ column: Int) -> Int64 { sqlite3_column_int64(handle, Int32(column)) }
  public func real(_ column: Int) -> Double { sqlite3_column_double(handle, Int32(column)) }

  /// The bytes of a TEXT column, valid until the next step.
  public func textBytes(_ column: Int) -> UnsafeRawBufferPointer {
    let text = sqlite3_column_text(handle, Int32(column))
    return UnsafeRawBufferPointer(
      start: text, count: Int(sqlite3_column_bytes(handle, Int32(column))))
  }

  /// The bytes of a BLOB column, valid until the next step.
  public func blobBytes(_ column: Int) -> UnsafeRawBufferPointer {
    let blob = sqlite3_column_blob(handle, Int32(column))
    return UnsafeRawBufferPointer(
      start: blob, count: Int(sqlite3_column_bytes(handle, Int32(column))))
  }

  public func value(_ column: Int) -> Value {
    switch columnType(column) {
    case .null: return .null
    case .integer: return .integer(integer(column))
    case .real: return .real(real(column))
    case .blob: return .blob(Array(blobBytes(column)))
    case .text:
      let bytes = textBytes(column)
      guard let text = String(validating: bytes, as: UTF8.self) else {
        return .malformedText(Array(bytes))
      }
      return .text(text)
    }
  }

  public var row: [Value] { (0..<columnCount).map(value) }

  /// A pointer that is not null, for the empty text: SQLite binds NULL for a null pointer.
  private static var empty: UnsafePointer<CChar> {
    UnsafeRawPointer(("" as StaticString).utf8Start).assumingMemoryBound(to: CChar.self)
  }
}
