// One SQLite value, as it is bound to a parameter or read from a column.

/// A value of one of SQLite's five storage classes.
///
/// Source: https://www.sqlite.org/datatype3.html
public enum Value: Equatable, Sendable {
  case null
  case integer(Int64)
  case real(Double)
  case text(String)
  /// TEXT whose bytes are not UTF-8. SQLite stores such text as it is, and so do we.
  case malformedText([UInt8])
  case blob([UInt8])
}
