// Whole results from the pool: for batches that read, and where a result is drawn as a table.

import NIOCore
import Store
import WALShip

/// Results that were read together, and the place that their snapshot is not beyond.
public struct ReadResults: Sendable {
  public var results: [StatementResult] = []
  public var failure: EngineResponse.Failure?
  public var place: LogPlace?
}

extension PooledReader {
  /// Runs reads one after the other, in one snapshot, and gives their results as values.
  ///
  /// - Parameters:
  ///   - hasTransaction: whether the reader is in a transaction already.
  ///   - rowsMax: the most rows of one result.
  public func read(
    _ statements: [StatementRequest], hasTransaction: Bool, rowsMax: Int, limits: ServingLimits,
    milliseconds: Int, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<ReadResults, RequestError>) -> Void
  ) {
    perform(
      on: loop, milliseconds: milliseconds,
      { connection throws(RequestError) in
        var found = ReadResults()
        guard !hasTransaction else {
          found = connection.readAll(statements, rowsMax: rowsMax, limits: limits)
          return found
        }
        try connection.begin()
        connection.budget.renew(
          checks: nil,
          deadlineNanoseconds: monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000)
        found = connection.readAll(statements, rowsMax: rowsMax, limits: limits)
        if found.place == nil { found.place = try? connection.presentPlace() }
        try? connection.end()
        return found
      }, completion: completion)
  }
}

extension ReadConnection {
  fileprivate func readAll(
    _ statements: [StatementRequest], rowsMax: Int, limits: ServingLimits
  ) -> ReadResults {
    var sink = ValueSink()
    var found = ReadResults()
    for (index, request) in statements.enumerated() {
      do throws(RequestError) {
        let cached = try cache.statement(request.sql)
        let fits: Bool
        do throws(ReadFailure) {
          fits = try run(
            cached, request.arguments, into: &sink, rowsMax: rowsMax,
            bytesMax: limits.responseBytesMax
          ) { () throws(RequestError) in found.place = try presentPlace() }
        } catch {
          throw error.error
        }
        guard fits else {
          throw RequestError(
            .responseTooLarge,
            "the result has more than \(rowsMax) rows or \(limits.responseBytesMax) bytes")
        }
      } catch {
        found.failure = EngineResponse.Failure(error, statement: index)
        return found
      }
    }
    found.results = sink.results
    return found
  }
}
