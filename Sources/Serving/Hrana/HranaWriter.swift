// Hrana's answers as JSON.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import Store
import WALShip

extension OutputBytes {
  /// A value: integers are texts, so that JavaScript keeps all their bits; blobs are unpadded.
  ///
  /// - Returns: false for a text that is not UTF-8, which JSON cannot hold; nothing is written then.
  mutating func writeHrana(_ value: Value) -> Bool {
    switch value {
    case .null: append("{\"type\":\"null\"}")
    case .integer(let number):
      append("{\"type\":\"integer\",\"value\":\"")
      writeDecimal(number)
      append("\"}")
    case .real(let number):
      append("{\"type\":\"float\",\"value\":")
      if !writeJSONNumber(number) { append("null") }
      append("}")
    case .text(let text):
      append("{\"type\":\"text\",\"value\":")
      writeJSONString(text)
      append("}")
    case .malformedText: return false
    case .blob(let bytes):
      append("{\"type\":\"blob\",\"base64\":\"")
      bytes.withUnsafeBytes { writeBase64($0, padding: false) }
      append("\"}")
    }
    return true
  }

  mutating func writeHranaColumns(_ names: [String], _ declaredTypes: [String?]) {
    append("[")
    for (index, name) in names.enumerated() {
      if index > 0 { append(",") }
      append("{\"name\":")
      writeJSONString(name)
      append(",\"decltype\":")
      writeOptional(index < declaredTypes.count ? declaredTypes[index] : nil)
      append("}")
    }
    append("]")
  }

  mutating func writeHranaRow(_ row: [Value]) -> Bool {
    append("[")
    for (index, value) in row.enumerated() {
      if index > 0 { append(",") }
      guard writeHrana(value) else { return false }
    }
    append("]")
    return true
  }

  /// A result; false, and nothing written, when it cannot be told in JSON.
  mutating func writeHrana(
    _ result: StatementResult, index: UInt64?, milliseconds: Double
  ) -> Bool {
    let start = count
    append("{\"cols\":")
    writeHranaColumns(result.columns, result.declaredTypes)
    append(",\"rows\":[")
    for (number, row) in result.rows.enumerated() {
      if number > 0 { append(",") }
      guard writeHranaRow(row) else {
        truncate(to: start)
        return false
      }
    }
    append("],")
    writeHranaEnd(
      changes: result.changes ?? 0, lastInsertRowid: result.lastInsertRowid, result.counts,
      index: index, milliseconds: milliseconds)
    return true
  }

  /// What follows the rows of a result, and its end.
  mutating func writeHranaEnd(
    changes: Int64, lastInsertRowid: Int64?, _ counts: RowCounts, index: UInt64?,
    milliseconds: Double
  ) {
    append("\"affected_row_count\":")
    writeDecimal(changes)
    append(",\"last_insert_rowid\":")
    writeQuotedOptional(lastInsertRowid)
    append(",\"replication_index\":")
    writeQuotedOptional(index.map { Int64(clamping: $0) })
    append(",\"rows_read\":")
    writeDecimal(counts.read)
    append(",\"rows_written\":")
    writeDecimal(counts.written)
    append(",\"query_duration_ms\":")
    if !writeJSONNumber(milliseconds) { append("0.0") }
    append("}")
  }

  /// A number as a text, or null.
  private mutating func writeQuotedOptional(_ number: Int64?) {
    guard let number else { return append("null") }
    append("\"")
    writeDecimal(number)
    append("\"")
  }

  mutating func writeHrana(_ description: StatementDescription) {
    append("{\"params\":[")
    for (index, name) in description.parameters.enumerated() {
      if index > 0 { append(",") }
      append("{\"name\":")
      writeOptional(name)
      append("}")
    }
    append("],\"cols\":[")
    for (index, column) in description.columns.enumerated() {
      if index > 0 { append(",") }
      append("{\"name\":")
      writeJSONString(column.name)
      append(",\"decltype\":")
      writeOptional(column.declaredType)
      append("}")
    }
    append("],\"is_explain\":")
    append(description.isExplain ? "true" : "false")
    append(",\"is_readonly\":")
    append(description.isReadOnly ? "true" : "false")
    append("}")
  }

  mutating func writeOptional(_ text: String?) {
    if let text { writeJSONString(text) } else { append("null") }
  }
}

extension HranaError {
  static let notUTF8 = HranaError(
    code: "SQLITE_MISMATCH",
    message: "a text of the result is not UTF-8, which JSON cannot hold: select it as a blob")
}

extension Token {
  /// The token that a `replication_index` stands for in a database; nil for 0, which stands for none.
  init?(replicationIndex number: UInt64, database: UInt32) {
    guard number > 0, let epoch = UInt32(exactly: number >> 40) else { return nil }
    self.init(database: database, epoch: Epoch(epoch), txid: TXID(number & (1 << 40 - 1)))
  }
}
