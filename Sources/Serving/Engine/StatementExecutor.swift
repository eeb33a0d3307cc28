// Runs statements on one connection and collects their results, for the writer and for reads that
// were forwarded.

import NIOCore
import Store
import WALShip

/// Executes client statements. It belongs to the thread of its connection.
public final class StatementExecutor {
  public let connection: Connection
  private let limits: ServingLimits
  private let budget = StatementBudget()
  private var cache: [SQLText: Statement] = [:]
  private static let cacheMax = 256

  public init(connection: Connection, limits: ServingLimits) {
    self.connection = connection
    self.limits = limits
    connection.limit(budget)
  }

  /// Forgets what an earlier client inserted: `last_insert_rowid()` is a matter of one request, or
  /// one transaction.
  public func beginRequest() { connection.lastInsertRowid = 0 }

  /// Gives the statements that follow `milliseconds` in all, at most the server's limit.
  public func beginBudget(milliseconds: Int?) {
    let allowed = min(milliseconds ?? .max, limits.statementMilliseconds)
    budget.renew(
      checks: nil, deadlineNanoseconds: monotonicNanoseconds() + UInt64(allowed) * 1_000_000)
  }

  /// The engine's own statements have no limit.
  public func endBudget() { budget.renew(checks: nil) }

  /// Compiles a statement, or takes it from the cache. Exactly one statement must be in the text.
  public func prepare(_ sql: SQLText) throws(RequestError) -> Statement {
    if let known = cache[sql] { return known }
    let result: Result<Statement, RequestError> = sql.bytes.withUnsafeReadableBytes { bytes in
      Result { () throws(RequestError) -> Statement in try compile(bytes) }
    }
    let statement = try result.get()
    if !statement.facts.changesSchema {
      if cache.count >= Self.cacheMax { cache.removeAll(keepingCapacity: true) }
      cache[SQLText(bytes: ByteBuffer(bytes: sql.bytes.readableBytesView))] = statement
    }
    return statement
  }

  private func compile(_ bytes: UnsafeRawBufferPointer) throws(RequestError) -> Statement {
    do {
      let (first, count) = try connection.prepare(bytes, persistent: true)
      guard let first else { throw RequestError(.badRequest, "there is no statement in the text") }
      let rest = UnsafeRawBufferPointer(rebasing: bytes[count...])
      if try connection.prepare(rest).statement != nil {
        throw RequestError(.badRequest, "several statements in one text: send them as a batch")
      }
      return first
    } catch { throw RequestError(reporting: error) }
  }

  /// Runs one statement to its end.
  ///
  /// - Parameters:
  ///   - bytesMax: what the result may have; it is lowered by what this one takes.
  ///   - wantsRows: false when rows are counted and not kept.
  ///   - isDetailed: whether to tell the declared types, and what the statement has cost.
  public func run(
    _ statement: Statement, _ arguments: Arguments, bytesMax: inout Int, wantsRows: Bool = true,
    isDetailed: Bool = false
  ) throws(RequestError) -> StatementResult {
    defer { statement.reset() }
    do {
      try statement.bind(arguments)
      var result = StatementResult(columns: statement.columnNames)
      var meter = isDetailed ? RowMeter(statement, totalChanges: connection.totalChanges) : nil
      while try statement.step() {
        meter?.noteRow(of: statement)
        guard wantsRows else { continue }
        let row = statement.row
        bytesMax -= row.reduce(16) { $0 + $1.approximateBytes }
        guard bytesMax > 0 else {
          throw RequestError(
            .responseTooLarge, "the result has more bytes than a response may have")
        }
        result.rows.append(row)
      }
      if statement.facts.modifiesRows, !statement.facts.changesSchema {
        result.changes = connection.changes
        let rowid = connection.lastInsertRowid
        if statement.facts.inserts, rowid != 0 { result.lastInsertRowid = rowid }
      }
      if let meter {
        result.columns = statement.columnNames
        result.declaredTypes = statement.columnDeclaredTypes
        result.counts = meter.counts(
          of: statement, totalChanges: connection.totalChanges, changes: result.changes)
      }
      return result
    } catch let error as RequestError {
      throw error
    } catch let error as SQLiteError {
      throw translate(error)
    } catch {
      throw RequestError(.badRequest, "\(error)")
    }
  }

  /// What the compiler knows of the first statement in a text.
  public func describe(_ sql: SQLText) throws(RequestError) -> StatementDescription {
    do {
      return try connection.describe(sql)
    } catch { throw RequestError(reporting: error) }
  }

  private func translate(_ error: SQLiteError) -> RequestError {
    if error.primaryCode == SQLiteError.interrupted, budget.wasSpent {
      return RequestError(.statementTimeout, "the statement took longer than it may")
    }
    if let refusal = connection.refusal, error.message.contains("authoriz") {
      return RequestError(.notAllowed, refusal)
    }
    return RequestError(error)
  }
}

extension RequestError {
  /// Any error of a statement: one that is for the client already stays as it is.
  package init(reporting error: any Error) {
    switch error {
    case let error as RequestError: self = error
    case let error as SQLiteError: self.init(error)
    default: self.init(.badRequest, "\(error)")
    }
  }

  /// What SQLite said, for a client.
  public init(_ error: SQLiteError) {
    if error.primaryCode == SQLiteError.denied {
      self.init(.notAllowed, error.message)
      return
    }
    self.init(
      code: error.name, message: error.message, offset: error.offset,
      retry: error.primaryCode == SQLiteError.busy)
  }
}

extension Statement {
  /// Binds the arguments of a request; too many or too few are an error.
  public func bind(_ arguments: Arguments) throws {
    switch arguments {
    case .none:
      guard parameterCount == 0 else { throw countMismatch(0) }
    case .positional(let values):
      guard values.count == parameterCount else { throw countMismatch(values.count) }
      for (index, value) in values.enumerated() { try bind(value, at: index + 1) }
    case .named(let values):
      for named in values {
        guard let index = parameterIndex(named: named.name) else {
          throw RequestError(.badRequest, "the statement has no parameter named \(named.name)")
        }
        try bind(named.value, at: index)
      }
      guard values.count >= parameterCount else { throw countMismatch(values.count) }
    }
  }

  private func countMismatch(_ count: Int) -> RequestError {
    let parameters = "\(parameterCount) parameter\(parameterCount == 1 ? "" : "s")"
    let arguments = "\(count) argument\(count == 1 ? "" : "s")"
    return RequestError(.badRequest, "the statement has \(parameters), the request \(arguments)")
  }
}

extension Value {
  /// About how much memory the value takes in an answer.
  var approximateBytes: Int {
    switch self {
    case .null: 4
    case .integer, .real: 12
    case .text(let text): text.utf8.count + 2
    case .malformedText(let bytes), .blob(let bytes): bytes.count * 4 / 3 + 8
    }
  }
}
