// The compiled statements of one reading connection. Compiling costs more than running most
// statements, so they are found by the bytes of their text.

import NIOCore
import Store
import WALShip

/// A statement as a reading connection keeps it. It belongs to the connection's thread.
public final class CachedStatement {
  public let kind: StatementKind
  /// Nil when it is none that a reading connection could run.
  public let statement: Statement?
  /// What `ResponseWriter.columns(encoded:)` takes.
  public private(set) var encodedColumns = ByteBuffer()
  public private(set) var columnCount = 0
  private var knownTexts: ColumnTexts?
  /// True while its rows are being read.
  public internal(set) var isInUse = false
  /// Too much for an event loop.
  public internal(set) var isSlow: Bool
  fileprivate var lastUse: UInt64 = 0
  private var recompilations = 0
  private var quickRuns = 0
  private var hasColumns = false

  /// After so many quick runs on the pool a statement may try the event loop again.
  private static let quickRunsWanted = 3
  private static let quickMicroseconds: UInt64 = 500

  init(_ statement: Statement, sql: SQLText) {
    kind = StatementKind(statement, sql: sql)
    isSlow = Self.mayBlock(statement.facts)
    switch kind {
    case .read, .foreignKeys: self.statement = statement
    default: self.statement = nil
    }
  }

  /// Statements with single instructions that no budget can stop: their first run is not on an
  /// event loop.
  private static func mayBlock(_ facts: StatementFacts) -> Bool {
    if facts.countsRows { return true }
    guard let pragma = facts.pragma else { return false }
    return ["integrity_check", "quick_check", "foreign_key_check"].contains(pragma)
  }

  /// Brings the columns up to date; to be called after the first step, which may have compiled the
  /// statement anew.
  func refreshColumns() {
    guard let statement else { return }
    let now = statement.recompilations
    guard !hasColumns || now != recompilations else { return }
    recompilations = now
    hasColumns = true
    columnCount = statement.columnCount
    knownTexts = nil
    encodedColumns = ResponseWriter.encodedColumns(statement.columnNames)
  }

  /// Names and declared types of the columns, for those who do not take `encodedColumns`.
  var columnTexts: ColumnTexts {
    if let knownTexts { return knownTexts }
    let texts = ColumnTexts(statement)
    knownTexts = texts
    return texts
  }

  /// Notes how long a run on the pool took.
  public func noteRun(microseconds: UInt64, wasLarge: Bool) {
    guard isSlow else { return }
    guard !wasLarge, microseconds < Self.quickMicroseconds else {
      quickRuns = 0
      return
    }
    quickRuns += 1
    guard quickRuns >= Self.quickRunsWanted else { return }
    quickRuns = 0
    isSlow = false
  }
}

/// What SQLite says of the columns of a result.
struct ColumnTexts {
  var names: [String] = []
  var declaredTypes: [String?] = []
  /// Both as Hrana writes them.
  let hrana: ByteBuffer

  init(_ statement: Statement?) {
    if let statement {
      names = statement.columnNames
      declaredTypes = statement.columnDeclaredTypes
    }
    var output = OutputBytes(capacity: 256)
    output.writeHranaColumns(names, declaredTypes)
    hrana = output.take()
  }
}

/// Compiled statements by their text; those that were not used for the longest time go first.
public final class StatementCache {
  /// Longer texts are compiled each time: they are rarely repeated, and their copies take memory.
  static let textBytesMax = 16 << 10

  private let connection: Connection
  private let capacity: Int
  private var entries: [SQLText: CachedStatement] = [:]
  private var uses: UInt64 = 0

  public init(connection: Connection, capacity: Int = 256) {
    self.connection = connection
    self.capacity = max(1, capacity)
    entries.reserveCapacity(self.capacity + 1)
  }

  public var count: Int { entries.count }

  /// Gives the statement of a text; a second one while the first is in use.
  ///
  /// - Throws: what the compiler says, or `PROTOCOL` when the text does not hold exactly one
  ///   statement.
  public func statement(_ sql: SQLText) throws(RequestError) -> CachedStatement {
    uses += 1
    if let known = entries[sql] {
      guard known.isInUse else {
        known.lastUse = uses
        return known
      }
      return try compile(sql, isKept: false)
    }
    let isKept = sql.bytes.readableBytes <= Self.textBytesMax
    let compiled = try compile(sql, isKept: isKept)
    guard isKept else { return compiled }
    if entries.count >= capacity { removeOldest() }
    compiled.lastUse = uses
    // A copy: the text lies in the memory of a request.
    entries[SQLText(bytes: ByteBuffer(bytes: sql.bytes.readableBytesView))] = compiled
    return compiled
  }

  private func removeOldest() {
    let oldest = entries.min { $0.value.lastUse < $1.value.lastUse }
    if let oldest { entries[oldest.key] = nil }
  }

  private func compile(_ sql: SQLText, isKept: Bool) throws(RequestError) -> CachedStatement {
    let result: Result<CachedStatement, RequestError> = sql.bytes.withUnsafeReadableBytes { bytes in
      Result { () throws(RequestError) -> CachedStatement in
        let compiled: (statement: Statement?, bytesRead: Int)
        do throws(SQLiteError) {
          compiled = try connection.prepare(bytes, persistent: isKept)
        } catch {
          throw RequestError(error)
        }
        guard let statement = compiled.statement else {
          throw RequestError(.badRequest, "there is no statement in the text")
        }
        guard
          StatementScanner.isBlank(UnsafeRawBufferPointer(rebasing: bytes[compiled.bytesRead...]))
        else {
          throw RequestError(.badRequest, "several statements in one text: send them as a batch")
        }
        return CachedStatement(statement, sql: sql)
      }
    }
    return try result.get()
  }
}
