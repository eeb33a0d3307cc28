// What SQLite's compiler tells of a statement that is not run.

import NIOCore
import Store

extension Connection {
  /// Describes the first statement in a text.
  ///
  /// Nothing runs, so a statement on TEMP objects is described where it could not run.
  func describe(_ sql: SQLText) throws -> StatementDescription {
    let before = policy
    if before == .client { policy = .ownConnection }
    defer { policy = before }
    let first = try sql.bytes.withUnsafeReadableBytes { try prepare($0).statement }
    guard let first else { throw RequestError(.badRequest, "there is no statement in the text") }
    return StatementDescription(first)
  }
}

extension StatementDescription {
  init(_ statement: Statement) {
    let parameters = (0..<statement.parameterCount).map { statement.parameterName(at: $0 + 1) }
    let columns = (0..<statement.columnCount).map { column in
      Column(
        name: statement.columnName(column), declaredType: statement.columnDeclaredType(column))
    }
    self.init(
      parameters: parameters, columns: columns, isExplain: statement.isExplain,
      isReadOnly: statement.isReadOnly)
  }
}
