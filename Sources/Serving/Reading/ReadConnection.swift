// A connection that reads for clients, with its statements. The loops and the threads of the pool
// each have their own.

import Store
import WALShip

/// What a read needs of its node.
public struct ReadSource: Sendable {
  public var databasePath: String
  public var tracker: PositionTracker
  public var logWatch: LogWatch
  public var limits: ServingLimits

  public init(
    databasePath: String, tracker: PositionTracker, logWatch: LogWatch, limits: ServingLimits
  ) {
    self.databasePath = databasePath
    self.tracker = tracker
    self.logWatch = logWatch
    self.limits = limits
  }
}

/// What a snapshot must be told as.
public enum SnapshotMark: Equatable, Sendable {
  /// A token of it covers everything that was seen.
  case token(Token)
  /// Somebody's commit was seen that has no number yet: wait until the tracker has reached this
  /// place.
  case ahead(LogPlace)
}

/// A read-only connection for clients. It belongs to one loop or one thread.
public final class ReadConnection {
  public let connection: Connection
  public let cache: StatementCache
  let budget = StatementBudget(instructionsPerCheck: 1000)
  private let source: ReadSource
  private let beginStatement: Statement
  private let commitStatement: Statement
  private let touchStatement: Statement

  /// - Parameters:
  ///   - busyMilliseconds: how long to wait while another process recovers the WAL.
  ///   - cacheKibibytes: how much of the database it keeps; nil for SQLite's default.
  public init(
    source: ReadSource, busyMilliseconds: Int, cacheKibibytes: Int? = nil
  ) throws(RequestError) {
    self.source = source
    do {
      connection = try Connection(path: source.databasePath, mode: .readOnly)
      connection.setBusyTimeout(milliseconds: busyMilliseconds)
      try connection.execute("PRAGMA query_only=1")
      if let cacheKibibytes {
        try connection.execute("PRAGMA cache_size=-\(max(1, cacheKibibytes))")
      }
      beginStatement = try connection.prepare("BEGIN")
      commitStatement = try connection.prepare("COMMIT")
      touchStatement = try connection.prepare("SELECT 1 FROM sqlite_schema")
    } catch {
      throw RequestError(error)
    }
    connection.policy = .client
    connection.limit(budget)
    cache = StatementCache(connection: connection, capacity: source.limits.statementCacheMax)
  }

  // MARK: Transactions

  /// Begins a transaction; its snapshot is taken by the first statement in it.
  public func begin() throws(RequestError) { try run(beginStatement) }

  /// Ends the transaction, if there is one.
  public func end() throws(RequestError) {
    guard !connection.isAutocommit else { return }
    try run(commitStatement)
  }

  /// Begins a transaction and takes its snapshot.
  ///
  /// - Returns: exactly the place of the snapshot.
  /// - Throws: `SQLITE_BUSY` when commits come so fast that it cannot be told.
  public func beginSnapshot() throws(RequestError) -> LogPlace {
    var place = try presentPlace()
    for _ in 0..<Self.snapshotTriesMax {
      try begin()
      try run(touchStatement)
      let after = try presentPlace()
      if after == place { return place }
      try end()
      place = after
    }
    throw RequestError(
      code: "SQLITE_BUSY", message: "commits come too fast for a snapshot to be told", retry: true)
  }

  private static let snapshotTriesMax = 1000

  private func run(_ statement: Statement) throws(RequestError) {
    budget.renew(checks: nil)
    defer { statement.reset() }
    do {
      _ = try statement.step()
    } catch {
      throw RequestError(error)
    }
  }

  // MARK: Positions

  /// Where the WAL ends now: at or behind any snapshot that is open already.
  public func presentPlace() throws(RequestError) -> LogPlace {
    do {
      return try source.logWatch.presentPlace()
    } catch {
      throw RequestError(error)
    }
  }

  /// What a snapshot that has been taken must be told as.
  public func mark() throws(RequestError) -> SnapshotMark {
    let place = try presentPlace()
    switch source.tracker.resolve(place) {
    case .position(let position): return .token(position.token)
    case .ahead: return .ahead(place)
    }
  }

  // MARK: Statements

  /// What a failed step of a read means.
  static func failure(_ error: SQLiteError) -> RequestError {
    guard error.primaryCode == SQLiteError.interrupted else { return RequestError(error) }
    return RequestError(.statementTimeout, "the statement took longer than it may")
  }

  /// Binds the arguments of a statement.
  func bind(_ statement: Statement, _ arguments: Arguments) throws(RequestError) {
    do {
      try statement.bind(arguments)
    } catch { throw RequestError(reporting: error) }
  }

  /// Runs a read to its end, within the budget that was set.
  ///
  /// - Parameters:
  ///   - bytesMax: what `sink` may hold after it.
  ///   - onSnapshot: called once the statement has its snapshot.
  /// - Returns: false when the result has more rows or bytes than that; what is in `sink` is of no
  ///   use then.
  func run<Sink: ResultSink & ~Copyable>(
    _ cached: CachedStatement, _ arguments: Arguments, into sink: inout Sink, rowsMax: Int,
    bytesMax: Int, onSnapshot: () throws(RequestError) -> Void
  ) throws(ReadFailure) -> Bool {
    guard let statement = cached.statement else {
      throw .request(RequestError(.readOnly, "this statement cannot be run here"))
    }
    cached.isInUse = true
    defer {
      statement.reset()
      cached.isInUse = false
    }
    do {
      try bind(statement, arguments)
    } catch {
      throw .request(error)
    }
    var hasRow = try step(statement)
    do {
      try onSnapshot()
    } catch {
      throw .request(error)
    }
    cached.refreshColumns()
    sink.beginResult(of: cached)
    let columns = cached.columnCount
    var rows = 0
    while hasRow {
      guard rows < rowsMax, sink.resultBytes < bytesMax else { return false }
      rows += 1
      sink.row(of: statement, columns: columns)
      hasRow = try step(statement)
    }
    sink.endResult(of: cached)
    return true
  }

  @inline(__always)
  private func step(_ statement: Statement) throws(ReadFailure) -> Bool {
    do {
      return try statement.step()
    } catch {
      throw .sqlite(error)
    }
  }
}

/// Why a read stopped.
enum ReadFailure: Error {
  case request(RequestError)
  case sqlite(SQLiteError)

  var error: RequestError {
    switch self {
    case .request(let error): error
    case .sqlite(let error): ReadConnection.failure(error)
    }
  }
}
