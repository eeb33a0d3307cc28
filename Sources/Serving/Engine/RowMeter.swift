// What a statement has cost in rows, as Hrana's clients are told: `rows_read` and `rows_written`.
// `RowCounts` says what is counted.

import Store
import WALShip

/// Measures one run of a statement.
struct RowMeter {
  private let changesBefore: Int64
  private var rows: Int64 = 0
  private var onlyInteger: Int64?

  /// - Parameter totalChanges: those of the connection before the run.
  init(_ statement: Statement?, totalChanges: Int64 = 0) {
    changesBefore = totalChanges
    _ = statement?.takeRowSteps()
  }

  mutating func noteRow(of statement: Statement) {
    rows += 1
    guard statement.facts.countsRows, statement.columnCount == 1,
      statement.columnType(0) == .integer
    else { return }
    onlyInteger = rows == 1 ? statement.integer(0) : nil
  }

  /// - Parameters:
  ///   - totalChanges: those of the connection after the run.
  ///   - changes: the rows that an INSERT, UPDATE or DELETE changed itself.
  func counts(
    of statement: Statement, totalChanges: Int64 = 0, changes: Int64? = nil
  ) -> RowCounts {
    let steps = statement.takeRowSteps()
    var counts = RowCounts(written: totalChanges - changesBefore)
    guard statement.facts.readsTables || changes != nil else { return counts }
    // A loop over a whole table stands at its first row without a step.
    let walked = steps.full + steps.partial + (steps.full > 0 ? 1 : 0)
    let changed = statement.facts.inserts ? 0 : changes ?? 0
    counts.read = max(walked, rows, changed)
    if walked == 0, let counted = onlyInteger, statement.columnName(0).isCountOfAll {
      // SQLite counts the rows of a whole table in one instruction.
      counts.read = max(counts.read, counted)
    }
    return counts
  }
}

extension String {
  fileprivate var isCountOfAll: Bool { lowercased() == "count(*)" }
}
