// What a reader must know of its snapshot: whether it has one, and which place in the WAL it cannot
// be beyond.

import CSQLite
import Glibc
import WALShip

extension Connection {
  /// Whether a read transaction is open, so that every statement sees the same state.
  public var hasSnapshot: Bool { sqlite3_txn_state(handle, "main") != SQLITE_TXN_NONE }
}

extension Statement {
  /// EXPLAIN, or EXPLAIN QUERY PLAN: nothing is done, whatever statement follows.
  public var isExplain: Bool { sqlite3_stmt_isexplain(handle) != 0 }
}

extension LogWatch {
  /// The same as `place`, without an allocation: this is asked after every read.
  ///
  /// Both copies of the header are compared word by word. A writer changes the second copy before
  /// the first and readers look at them in the other order, so equal copies are one header and not
  /// parts of two. A writer that was put aside in the middle of it, by the system or a signal, gets
  /// some time to go on.
  ///
  /// - Throws: `SQLITE_BUSY` when it did not.
  public func presentPlace() throws(SQLiteError) -> LogPlace {
    let base = try index.block(0)
    for attempt in 0..<Self.spinsMax + Self.pausesMax {
      if attempt >= Self.spinsMax { usleep(Self.pauseMicroseconds) }
      let first = Self.words(base)
      edge_fence()
      let second = Self.words(base + WALIndexHeader.byteCount)
      guard first == second, first[0] == WALIndexHeader.version else { continue }
      return LogPlace(
        salts: Salts(first: first[8].byteSwapped, second: first[9].byteSwapped), frame: first[4])
    }
    throw SQLiteError(code: SQLITE_BUSY, message: "the state of the WAL cannot be read")
  }

  private static let spinsMax = 1000
  /// 100 milliseconds in all: it may be an event loop that waits.
  private static let pausesMax = 200
  private static let pauseMicroseconds: UInt32 = 500

  private static func words(_ base: UnsafeMutableRawPointer) -> SIMD16<UInt32> {
    var words = SIMD16<UInt32>.zero
    for word in 0..<12 { words[word] = edge_load_u32(base + word * 4) }
    return words
  }
}
