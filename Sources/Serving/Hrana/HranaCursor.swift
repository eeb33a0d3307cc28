// The entries of a cursor: the results of a batch, row by row.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import Store
import WALShip

/// Each element is an entry as JSON. Steps that were skipped have none.
struct HranaCursor: Sequence, IteratorProtocol {
  private let steps: [StepOutcome]
  private let token: Token?
  private var step = 0
  /// The next row of the present step; nil before it began.
  private var row: Int?
  private var isOver = false

  init(steps: [StepOutcome], token: Token?) {
    self.steps = steps
    self.token = token
  }

  mutating func next() -> ByteBuffer? {
    var output = OutputBytes(capacity: 512)
    while step < steps.count {
      defer {
        if row == nil { step += 1 }
      }
      switch steps[step] {
      case .skipped, .description, .autocommit: continue
      case .failed(let error): return failure(HranaError(error))
      case .result(let result): return entry(of: result, &output)
      }
    }
    guard !isOver else { return nil }
    isOver = true
    output.append("{\"type\":\"replication_index\",\"replication_index\":")
    if let index = token?.replicationIndex {
      output.writeDecimal(index)
    } else {
      output.append("null")
    }
    output.append("}")
    return output.take()
  }

  private mutating func entry(of result: StatementResult, _ output: inout OutputBytes) -> ByteBuffer
  {
    guard let number = row else {
      row = 0
      output.append("{\"type\":\"step_begin\",\"step\":")
      output.writeDecimal(Int64(step))
      output.append(",\"cols\":")
      output.writeHranaColumns(result.columns, result.declaredTypes)
      output.append("}")
      return output.take()
    }
    guard number < result.rows.count else {
      row = nil
      output.append("{\"type\":\"step_end\",\"affected_row_count\":")
      output.writeDecimal(result.changes ?? 0)
      output.append(",\"last_insert_rowid\":")
      // A number here, a text everywhere else.
      if let rowid = result.lastInsertRowid {
        output.writeDecimal(rowid)
      } else {
        output.append("null")
      }
      output.append("}")
      return output.take()
    }
    row = number + 1
    output.append("{\"type\":\"row\",\"row\":")
    guard output.writeHranaRow(result.rows[number]) else {
      row = nil
      return failure(.notUTF8)
    }
    output.append("}")
    return output.take()
  }

  private func failure(_ error: HranaError) -> ByteBuffer {
    var output = OutputBytes(capacity: 256)
    output.append("{\"type\":\"step_error\",\"step\":")
    output.writeDecimal(Int64(step))
    output.append(",\"error\":")
    error.write(into: &output)
    output.append("}")
    return output.take()
  }
}
