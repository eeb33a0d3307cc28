// The result of one step of a stream that was read here.

import NIOCore
import Store
import WALShip

/// Keeps the result of one statement, with what it has cost.
struct StepSink: ResultSink {
  private(set) var result = StatementResult()
  private(set) var resultBytes = 0
  private(set) var hasher: ResultHasher?
  private let wantsRows: Bool
  private var meter: RowMeter

  /// - Parameters:
  ///   - statement: what is about to run.
  ///   - isHashed: whether the rows are added up, for a transaction that may become a writing one.
  init(_ statement: CachedStatement, wantsRows: Bool, isHashed: Bool = false) {
    self.wantsRows = wantsRows
    hasher = isHashed ? ResultHasher() : nil
    meter = RowMeter(statement.statement)
  }

  mutating func beginResult(of statement: CachedStatement) {
    let texts = statement.columnTexts
    result.columns = texts.names
    result.declaredTypes = texts.declaredTypes
  }

  mutating func row(of statement: Statement, columns: Int) {
    meter.noteRow(of: statement)
    hasher?.add(rowOf: statement, columns: columns)
    guard wantsRows else { return }
    let row = (0..<columns).map(statement.value)
    resultBytes += row.reduce(16) { $0 + $1.approximateBytes }
    result.rows.append(row)
  }

  mutating func endResult(of statement: CachedStatement) {
    guard let compiled = statement.statement else { return }
    result.counts = meter.counts(of: compiled)
  }
}

/// What a reader of the pool has read for a step.
struct StepRead: Sendable {
  var result: StatementResult
  var bytes: Int
  var hash: ResultHasher
  /// The place in the WAL that the snapshot is not beyond.
  var place: LogPlace?
}

extension PooledReader {
  /// Runs one read to its end.
  ///
  /// - Parameters:
  ///   - bytesMax: what the result may have.
  ///   - completion: called on `loop`.
  func read(
    _ request: StatementRequest, wantsRows: Bool, lastInsertRowid: Int64, bytesMax: Int,
    milliseconds: Int, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<StepRead, RequestError>) -> Void
  ) {
    perform(
      on: loop, milliseconds: milliseconds,
      { connection throws(RequestError) in
        let cached = try connection.cache.statement(request.sql)
        connection.connection.lastInsertRowid = lastInsertRowid
        defer { connection.connection.lastInsertRowid = 0 }
        var sink = StepSink(cached, wantsRows: wantsRows, isHashed: true)
        var place: LogPlace?
        do throws(ReadFailure) {
          let fits = try connection.run(
            cached, request.arguments, into: &sink, rowsMax: .max, bytesMax: max(1, bytesMax)
          ) { () throws(RequestError) in place = try connection.presentPlace() }
          guard fits else { throw .request(.tooLarge) }
        } catch { throw error.error }
        return StepRead(
          result: sink.result, bytes: sink.resultBytes, hash: sink.hasher ?? ResultHasher(),
          place: place)
      }, completion: completion)
  }
}

extension RequestError {
  static let tooLarge = RequestError(
    .responseTooLarge, "the results have more bytes than a response may have")
  static let writeDenied = RequestError(.authDenied, "this credential does not allow to write")
  static let readDenied = RequestError(.authDenied, "this credential does not allow to read")
}
