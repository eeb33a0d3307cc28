// Where the rows of a read go: straight into the bytes of an answer, whatever protocol it is in, or
// into memory.

import NIOCore
import Store

/// Takes the result of a statement, row by row.
public protocol ResultSink: ~Copyable {
  /// How large the result is so far, in bytes.
  var resultBytes: Int { get }
  mutating func beginResult(of statement: CachedStatement)
  /// Takes the row that `statement` stands at.
  mutating func row(of statement: Statement, columns: Int)
  mutating func endResult(of statement: CachedStatement)
}

extension ResponseWriter: ResultSink {
  public var resultBytes: Int { lineBytes }

  public mutating func beginResult(of statement: CachedStatement) {
    guard statement.columnCount > 0 else { return }
    columns(encoded: statement.encodedColumns)
    beginRows()
  }

  @inline(__always)
  public mutating func row(of statement: Statement, columns: Int) {
    beginRow()
    for column in 0..<columns {
      switch statement.columnType(column) {
      case .null: nullValue()
      case .integer: value(integer: statement.integer(column))
      case .real: value(real: statement.real(column))
      case .text: value(text: statement.textBytes(column))
      case .blob: value(blob: statement.blobBytes(column))
      }
    }
    endRow()
  }

  public mutating func endResult(of statement: CachedStatement) {
    if statement.columnCount > 0 { endRows() } else { member("ok", true) }
  }
}

/// Keeps results as values, for those who need a whole result before they can write any of it.
public struct ValueSink: ResultSink {
  public private(set) var results: [StatementResult] = []
  public private(set) var resultBytes = 0

  public init() {}

  public mutating func beginResult(of statement: CachedStatement) {
    results.append(StatementResult(columns: statement.statement?.columnNames ?? []))
  }

  public mutating func row(of statement: Statement, columns: Int) {
    let row = (0..<columns).map(statement.value)
    resultBytes += row.reduce(16) { $0 + $1.approximateBytes }
    results[results.count - 1].rows.append(row)
  }

  public mutating func endResult(of statement: CachedStatement) {}
}
