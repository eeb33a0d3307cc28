// A result that leaves in pieces: a chunk is made when the client has room for it, and not before.

import NIOCore
import Store
import WALShip

/// A part of a result.
public struct ResultChunk: Sendable {
  /// As its `RowFormat` says, what is of the columns in the first chunk alone.
  public var members: ByteBuffer
  public var isLast: Bool
  /// The place in the WAL that the snapshot is not beyond.
  public var place: LogPlace
  /// What all rows add up to, in the last chunk.
  public var hash: ResultHasher
}

/// How the rows of a stream are written.
enum RowFormat: Sendable {
  /// Members of an answer line: `"cols":[…],"rows":[…]`.
  case line(IntegerStyle)
  /// Entries of a cursor.
  case entries(CursorEntries)
}

/// One read on a reader of the pool, chunk by chunk.
///
/// Its holder asks for one chunk at a time, until the last or an error, or calls `end`.
public final class RowStream: @unchecked Sendable {  // all variables belong to the reader's thread
  public let reader: PooledReader
  private let request: StatementRequest
  private var format: RowFormat
  private let limits: ServingLimits
  private let isHashed: Bool
  private let lastInsertRowid: Int64
  private var cached: CachedStatement?
  private var hasRow = false
  private var place = LogPlace(salts: Salts(first: 0, second: 0), frame: 0)
  private var hasher = ResultHasher()
  /// What is left of the statement's time; waiting for the client does not count.
  private var millisecondsLeft: Int

  /// - Parameters:
  ///   - isHashed: whether the rows are added up, for a transaction that may become a writing one.
  ///   - lastInsertRowid: what the SQL function of that name says.
  init(
    reader: PooledReader, request: StatementRequest, format: RowFormat, milliseconds: Int,
    limits: ServingLimits, isHashed: Bool = false, lastInsertRowid: Int64 = 0
  ) {
    self.reader = reader
    self.request = request
    self.format = format
    self.limits = limits
    self.isHashed = isHashed
    self.lastInsertRowid = lastInsertRowid
    millisecondsLeft = milliseconds
  }

  /// Makes the next chunk. `completion` is called on `loop`; after an error the stream has ended.
  public func next(
    on loop: any EventLoop,
    completion: @escaping @Sendable (Result<ResultChunk, RequestError>) -> Void
  ) {
    reader.perform(
      on: loop, milliseconds: millisecondsLeft,
      { connection throws(RequestError) in try self.chunk(on: connection) },
      completion: completion)
  }

  /// Ends a stream before its last chunk.
  public func end(on loop: any EventLoop, completion: @escaping @Sendable () -> Void) {
    reader.interrupt()
    reader.perform(
      on: loop, milliseconds: limits.statementMilliseconds,
      { _ throws(RequestError) in self.finish() },
      completion: { _ in completion() })
  }

  private func chunk(on connection: ReadConnection) throws(RequestError) -> ResultChunk {
    let started = monotonicNanoseconds()
    connection.connection.lastInsertRowid = lastInsertRowid
    defer { connection.connection.lastInsertRowid = 0 }
    do throws(RequestError) {
      let isFirst = cached == nil
      let statement: CachedStatement
      if let cached { statement = cached } else { statement = try start(on: connection) }
      cached = statement
      let members: ByteBuffer
      switch format {
      case .line(let integers):
        var writer = ResponseWriter(integers: integers, capacity: 16 << 10)
        if isFirst { writer.beginResult(of: statement) } else { writer.beginRows() }
        try fill(&writer, statement, rowsMax: limits.chunkRowsMax)
        writer.endResult(of: statement)
        members = writer.take()
      case .entries(let entries):
        var sink = CursorSink(entries, capacity: limits.chunkBytesMax * 2)
        if isFirst { sink.beginResult(of: statement) }
        try fill(&sink, statement, rowsMax: .max)
        if !hasRow { sink.endResult(of: statement) }
        format = .entries(sink.entries)
        members = sink.take()
      }
      let chunk = ResultChunk(members: members, isLast: !hasRow, place: place, hash: hasher)
      if hasRow {
        millisecondsLeft -= Int((monotonicNanoseconds() - started) / 1_000_000)
      } else {
        finish()
      }
      return chunk
    } catch {
      finish()
      throw error
    }
  }

  private func start(on connection: ReadConnection) throws(RequestError) -> CachedStatement {
    let found = try connection.cache.statement(request.sql)
    guard let statement = found.statement else {
      throw RequestError(.readOnly, "this statement cannot be run here")
    }
    try connection.bind(statement, request.arguments)
    found.isInUse = true
    do {
      hasRow = try step(statement)
      place = try connection.presentPlace()
    } catch {
      found.isInUse = false
      statement.reset()
      throw error
    }
    found.refreshColumns()
    return found
  }

  private func fill<Sink: ResultSink & ~Copyable>(
    _ sink: inout Sink, _ found: CachedStatement, rowsMax: Int
  ) throws(RequestError) {
    guard let statement = found.statement else { return }
    let columns = found.columnCount
    var rows = 0
    while hasRow, rows < rowsMax, sink.resultBytes < limits.chunkBytesMax {
      rows += 1
      sink.row(of: statement, columns: columns)
      if isHashed { hasher.add(rowOf: statement, columns: columns) }
      hasRow = try step(statement)
    }
  }

  private func step(_ statement: Statement) throws(RequestError) -> Bool {
    do {
      return try statement.step()
    } catch {
      throw ReadConnection.failure(error)
    }
  }

  private func finish() {
    cached?.statement?.reset()
    cached?.isInUse = false
    cached = nil
    hasRow = false
  }
}
