// What the rows of a result add up to. A transaction that began with reads at a replica is taken
// over by the primary only if the same reads give the same there, so both sides must count in the
// same way, whatever the rows come from.

import NIOCore
import Store
import WALShip

/// A hash of the values of a result, in their order.
///
/// Each row is encoded as between nodes, after its number of columns, and hashed with the hash so
/// far as the seed.
public struct ResultHasher: Sendable {
  /// The hash of all rows so far.
  public private(set) var value: UInt64 = 0
  /// What the encoded rows take: the size that `TransactionBasis.resultBytesMax` limits.
  public private(set) var byteCount = 0
  private var row = ByteBuffer()

  public init() {}

  /// Adds rows of a finished result.
  public mutating func add(rows: [[Value]]) {
    for row in rows { add(row: row) }
  }

  public mutating func add(row values: [Value]) {
    begin(columns: values.count)
    for value in values { row.writeValue(value) }
    end()
  }

  /// Adds the row that `statement` stands at.
  public mutating func add(rowOf statement: Statement, columns: Int) {
    begin(columns: columns)
    for column in 0..<columns {
      switch statement.columnType(column) {
      case .null: row.writeInteger(0 as UInt8)
      case .integer: row.writeValue(.integer(statement.integer(column)))
      case .real: row.writeValue(.real(statement.real(column)))
      case .text:
        let text = statement.textBytes(column)
        counted(text, tag: JSONScan.isUTF8(text) ? 3 : 4)
      case .blob: counted(statement.blobBytes(column), tag: 5)
      }
    }
    end()
  }

  private mutating func counted(_ bytes: UnsafeRawBufferPointer, tag: UInt8) {
    row.writeInteger(tag)
    row.writeVarint(UInt64(bytes.count))
    row.writeBytes(bytes)
  }

  private mutating func begin(columns: Int) {
    row.clear()
    row.writeVarint(UInt64(columns))
  }

  private mutating func end() {
    value = row.withUnsafeReadableBytes { xxh64($0, seed: value) }
    byteCount += row.readableBytes
  }
}
