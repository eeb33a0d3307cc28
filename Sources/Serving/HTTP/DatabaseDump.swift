// The database as SQL text: what `sqlite3 FILE .dump` gives. It is read from one snapshot, and made
// only as fast as the client takes it.
// Source: https://www.sqlite.org/cli.html#converting_an_entire_database_to_a_text_file

import NIOCore
import Store
import WALShip

/// Writes one dump, piece by piece. It is used on the reader's thread alone, a call at a time.
final class DatabaseDump: @unchecked Sendable {  // see above
  private enum Step {
    case begin
    /// Objects in the order of the schema.
    case table(Int)
    case rows(Statement, table: Int)
    case others
    case over
  }

  private struct Table {
    var name: String
    var sql: String
    var isVirtual: Bool
  }

  private static let pieceBytes = 64 << 10
  private var step = Step.begin
  private var tables: [Table] = []
  private var insert = ""
  private var hasVirtual = false

  /// Answers a call with a dump.
  static func answer(_ call: HTTPCall) {
    let pool = call.node.readers.pool
    let loop = call.loop
    let bound = NIOLoopBound(call, eventLoop: loop)
    pool.checkOut(on: loop) { result in
      let call = bound.value
      switch result {
      case .failure(let error):
        call.answer(.serviceUnavailable, json: HTTPErrorBody.json(error.message))
      case .success(let reader):
        guard !call.isOver else { return pool.checkIn(reader, on: loop) }
        DatabaseDump().next(call, reader, pool)
      }
    }
  }

  private func next(_ call: HTTPCall, _ reader: PooledReader, _ pool: ReadPool) {
    let loop = call.loop
    let bound = NIOLoopBound(call, eventLoop: loop)
    reader.perform(
      on: loop, milliseconds: call.node.limits.readTransactionMilliseconds,
      { connection throws(RequestError) in try self.piece(connection) },
      completion: { result in self.took(result, bound.value, reader, pool) })
  }

  private func took(
    _ result: Result<ByteBuffer?, RequestError>, _ call: HTTPCall, _ reader: PooledReader,
    _ pool: ReadPool
  ) {
    switch result {
    case .success(let piece?) where !call.isOver:
      if !call.hasBegun { call.begin(.ok, type: HTTPType.text) }
      call.write(piece)
      call.onGone = { self.finish(reader, pool, on: call.loop) }
      call.whenWritable {
        call.onGone = nil
        self.next(call, reader, pool)
      }
    case .success(nil) where !call.isOver:
      call.end()
      finish(reader, pool, on: call.loop)
    case .failure(let error) where !call.hasBegun && !call.isOver:
      call.answer(.internalServerError, json: HTTPErrorBody.json(error.message))
      finish(reader, pool, on: call.loop)
    case .success, .failure:
      call.abort()
      finish(reader, pool, on: call.loop)
    }
  }

  private func finish(_ reader: PooledReader, _ pool: ReadPool, on loop: any EventLoop) {
    reader.perform(
      on: loop, milliseconds: 1000,
      { connection throws(RequestError) in
        self.step = .over
        try connection.end()
      }, completion: { _ in pool.checkIn(reader, on: loop) })
  }

  // MARK: On the reader's thread

  /// The next piece; nil at the end.
  private func piece(_ reader: ReadConnection) throws(RequestError) -> ByteBuffer? {
    var output = OutputBytes(capacity: Self.pieceBytes * 2)
    do {
      while output.count < Self.pieceBytes, try advance(reader, &output) {}
    } catch let error as RequestError {
      throw error
    } catch let error as SQLiteError {
      throw RequestError(error)
    } catch {
      throw RequestError(.badRequest, "\(error)")
    }
    return output.count > 0 ? output.take() : nil
  }

  /// - Returns: false at the end.
  private func advance(_ reader: ReadConnection, _ output: inout OutputBytes) throws -> Bool {
    switch step {
    case .begin:
      try reader.begin()
      try readTables(reader.connection)
      output.append("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
      step = .table(0)
    case .table(let number) where number < tables.count:
      try begin(tables[number], number, reader.connection, &output)
    case .table: step = .others
    case .rows(let statement, let number):
      guard try statement.step() else {
        step = .table(number + 1)
        break
      }
      write(statement.row, &output)
    case .others:
      try writeOthers(reader.connection, &output)
      step = .over
    case .over: return false
    }
    return true
  }

  private func readTables(_ connection: Connection) throws {
    let rows = try connection.query(
      "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL "
        + "AND name NOT GLOB '_edge_*' ORDER BY name = 'sqlite_sequence', rowid")
    for row in rows {
      guard row.count == 2, case .text(let name) = row[0], case .text(let sql) = row[1] else {
        continue
      }
      let isVirtual = sql.uppercased().hasPrefix("CREATE VIRTUAL TABLE")
      tables.append(Table(name: name, sql: sql, isVirtual: isVirtual))
    }
  }

  private func begin(
    _ table: Table, _ number: Int, _ connection: Connection, _ output: inout OutputBytes
  ) throws {
    step = .table(number + 1)
    if table.isVirtual {
      if !hasVirtual { output.append("PRAGMA writable_schema=ON;\n") }
      hasVirtual = true
      output.append("INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table',")
      for text in [table.name, table.name] {
        output.append("\(Self.quote(text)),")
      }
      output.append("0,\(Self.quote(table.sql)));\n")
      return
    }
    switch table.name {
    case "sqlite_sequence": output.append("DELETE FROM sqlite_sequence;\n")
    case let name where name.hasPrefix("sqlite_stat"): output.append("ANALYZE sqlite_schema;\n")
    case let name where name.hasPrefix("sqlite_"): return
    default: output.append("\(table.sql);\n")
    }
    let columns = try connection.query("SELECT name FROM pragma_table_info(?)", [.text(table.name)])
    let names = columns.compactMap { row -> String? in
      guard case .text(let name)? = row.first else { return nil }
      return Self.identifier(name)
    }
    guard !names.isEmpty else { return }
    let list = names.joined(separator: ",")
    let name = Self.identifier(table.name)
    insert = "INSERT INTO \(name)(\(list)) VALUES("
    step = .rows(try connection.prepare("SELECT \(list) FROM \(name)"), table: number)
  }

  private func write(_ row: [Value], _ output: inout OutputBytes) {
    output.append(insert)
    for (index, value) in row.enumerated() {
      if index > 0 { output.append(",") }
      output.writeSQL(value)
    }
    output.append(");\n")
  }

  private func writeOthers(_ connection: Connection, _ output: inout OutputBytes) throws {
    let rows = try connection.query(
      "SELECT sql FROM sqlite_schema WHERE type IN ('index','trigger','view') AND sql IS NOT NULL "
        + "AND tbl_name NOT GLOB '_edge_*' ORDER BY type = 'trigger', rowid")
    for case .text(let sql)? in rows.map(\.first) { output.append("\(sql);\n") }
    if hasVirtual { output.append("PRAGMA writable_schema=OFF;\n") }
    output.append("COMMIT;\n")
  }

  static func identifier(_ name: String) -> String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
      + "\""
  }

  static func quote(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
  }
}

extension OutputBytes {
  /// A value as a literal that SQLite reads back to the same value.
  mutating func writeSQL(_ value: Value) {
    switch value {
    case .null: append("NULL")
    case .integer(let number): writeDecimal(number)
    case .real(let number):
      if !writeJSONNumber(number) { append(number < 0 ? "-1e999" : "1e999") }
    case .text(let text):
      // A literal ends at a NUL.
      if text.utf8.contains(0) {
        writeText(Array(text.utf8))
      } else {
        append(DatabaseDump.quote(text))
      }
    case .malformedText(let bytes): writeText(bytes)
    case .blob(let bytes):
      append("X'")
      writeHexDigits(bytes)
      append("'")
    }
  }

  private mutating func writeText(_ bytes: [UInt8]) {
    append("CAST(X'")
    writeHexDigits(bytes)
    append("' AS TEXT)")
  }

  private mutating func writeHexDigits(_ bytes: [UInt8]) {
    for byte in bytes { writeHex(UInt32(byte), digits: 2) }
  }
}
