// How many rows a statement has looked at, as far as a stock SQLite can tell.
// Source: https://www.sqlite.org/c3ref/c_stmtstatus_counter.html

import CSQLite

extension Statement {
  /// How often loops went on to another row since the last call: those over whole tables, and those
  /// over a part of an index.
  ///
  /// SQLite documents the counter of the former. Those of the other loops it counts under number 0.
  /// The rows that leave a sorter are counted there, too, so a statement that sorts tells whole
  /// tables alone.
  public func takeRowSteps() -> (full: Int64, partial: Int64) {
    let full = take(SQLITE_STMTSTATUS_FULLSCAN_STEP)
    let partial = take(0)
    return (full, take(SQLITE_STMTSTATUS_SORT) > 0 ? 0 : partial)
  }

  private func take(_ counter: Int32) -> Int64 {
    Int64(UInt32(bitPattern: sqlite3_stmt_status(handle, counter, 1)))
  }
}
