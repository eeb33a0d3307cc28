// The entries of a cursor: the results of a batch, row by row. Those of results that are here as a
// whole, and those that are written while SQLite makes the rows.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import Store
import WALShip

/// Each element is an entry as JSON. Steps that were skipped have none.
struct HranaCursor: Sequence, IteratorProtocol {
  private let steps: [StepOutcome]
  /// The number of the first one.
  private let first: Int
  private let token: Token?
  private var step = 0
  /// The next row of the present step; nil before it began.
  private var row: Int?
  private var isOver = false

  init(steps: [StepOutcome], token: Token?) {
    self.steps = steps
    self.token = token
    first = 0
  }

  /// The entries of one step, without the one that ends a cursor.
  init(step: Int, _ outcome: StepOutcome) {
    steps = [outcome]
    first = step
    token = nil
    isOver = true
  }

  mutating func next() -> ByteBuffer? {
    var output = OutputBytes(capacity: 512)
    while step < steps.count {
      defer {
        if row == nil { step += 1 }
      }
      switch steps[step] {
      case .skipped, .description, .autocommit: continue
      case .failed(let error): output.writeStepError(HranaError(error), step: first + step)
      case .result(let result): writeEntry(of: result, &output)
      }
      return output.take()
    }
    guard !isOver else { return nil }
    isOver = true
    output.writeCursorEnd(token)
    return output.take()
  }

  private mutating func writeEntry(of result: StatementResult, _ output: inout OutputBytes) {
    guard let number = row else {
      row = 0
      output.append("{\"type\":\"step_begin\",\"step\":")
      output.writeDecimal(Int64(first + step))
      output.append(",\"cols\":")
      output.writeHranaColumns(result.columns, result.declaredTypes)
      output.append("}")
      return
    }
    guard number < result.rows.count else {
      row = nil
      output.writeStepEnd(changes: result.changes ?? 0, lastInsertRowid: result.lastInsertRowid)
      return
    }
    row = number + 1
    output.append("{\"type\":\"row\",\"row\":")
    guard output.writeHranaRow(result.rows[number]) else {
      row = nil
      output.removeAll()
      return output.writeStepError(.notUTF8, step: first + step)
    }
    output.append("}")
  }
}

/// What the entries of one step are, from piece to piece.
struct CursorEntries: Sendable {
  let step: Int
  let wantsRows: Bool
  /// False once there was a text that JSON cannot hold: no row is written from there on.
  fileprivate(set) var isUTF8 = true

  init(step: Int, wantsRows: Bool) {
    self.step = step
    self.wantsRows = wantsRows
  }
}

/// Writes entries while the rows come.
struct CursorSink: ~Copyable, ResultSink {
  private(set) var entries: CursorEntries
  private var output: OutputBytes

  init(_ entries: CursorEntries, capacity: Int) {
    self.entries = entries
    output = OutputBytes(capacity: capacity)
  }

  var resultBytes: Int { output.count }

  mutating func take() -> ByteBuffer { output.take() }

  mutating func beginResult(of statement: CachedStatement) {
    output.append("{\"type\":\"step_begin\",\"step\":")
    output.writeDecimal(Int64(entries.step))
    output.append(",\"cols\":")
    output.append(statement.columnTexts.hrana)
    output.append("}\n")
  }

  mutating func row(of statement: Statement, columns: Int) {
    guard entries.wantsRows, entries.isUTF8 else { return }
    let start = output.count
    output.append("{\"type\":\"row\",\"row\":[")
    for column in 0..<columns {
      if column > 0 { output.append(",") }
      guard output.writeHrana(column, of: statement) else {
        entries.isUTF8 = false
        return output.truncate(to: start)
      }
    }
    output.append("]}\n")
  }

  mutating func endResult(of statement: CachedStatement) {
    if entries.isUTF8 {
      output.writeStepEnd(changes: 0, lastInsertRowid: nil)
    } else {
      output.writeStepError(.notUTF8, step: entries.step)
    }
    output.append("\n")
  }
}

extension OutputBytes {
  fileprivate mutating func writeStepEnd(changes: Int64, lastInsertRowid: Int64?) {
    append("{\"type\":\"step_end\",\"affected_row_count\":")
    writeDecimal(changes)
    append(",\"last_insert_rowid\":")
    // A number here, a text everywhere else.
    if let lastInsertRowid { writeDecimal(lastInsertRowid) } else { append("null") }
    append("}")
  }

  fileprivate mutating func writeStepError(_ error: HranaError, step: Int) {
    append("{\"type\":\"step_error\",\"step\":")
    writeDecimal(Int64(step))
    append(",\"error\":")
    error.write(into: &self)
    append("}")
  }

  /// The last entry of a cursor.
  mutating func writeCursorEnd(_ token: Token?) {
    append("{\"type\":\"replication_index\",\"replication_index\":")
    if let index = token?.replicationIndex { writeDecimal(index) } else { append("null") }
    append("}")
  }
}
