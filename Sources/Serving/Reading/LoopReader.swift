// Reads in place, on the event loop that the request arrived on: a hop to another thread costs as
// much as ten to a hundred point selects. What turns out to be too slow or too large for that is
// handed to `ReadPool`.

import NIOCore
import Store
import WALShip

/// The reader of one event loop. It is used on that loop alone.
public final class LoopReader {
  public enum Outcome: Equatable, Sendable {
    /// The result is in the sink.
    case finished(SnapshotMark)
    /// What is in the sink must be discarded, and the statement run on the pool.
    case handOver
  }

  private let reader: ReadConnection
  private let limits: ServingLimits
  private let tracker: PositionTracker
  private let checksMax: Int
  /// Where the node stood before the open batch began; its snapshot is at least as new.
  public private(set) var batchFloor: Position?
  /// The mark of the batch's snapshot, as soon as it has one.
  private var batchMark: SnapshotMark?

  public init(source: ReadSource) throws(RequestError) {
    limits = source.limits
    tracker = source.tracker
    checksMax = max(1, source.limits.loopInstructionsMax / 1000)
    reader = try ReadConnection(
      source: source, busyMilliseconds: 0, cacheKibibytes: source.limits.loopCacheKibibytes)
  }

  /// Compiles a statement, or takes it from the cache.
  public func statement(_ sql: SQLText) throws(RequestError) -> CachedStatement {
    try reader.cache.statement(sql)
  }

  /// What the compiler knows of the first statement in a text.
  func describe(_ sql: SQLText) throws(RequestError) -> StatementDescription {
    do {
      return try reader.connection.describe(sql)
    } catch { throw RequestError(reporting: error) }
  }

  /// Whether the last statement was refused for a TEMP object.
  var refusedTemporaryObject: Bool { reader.connection.refusedTemporaryObject }

  /// What `last_insert_rowid()` is for the reads that follow.
  var lastInsertRowid: Int64 {
    get { reader.connection.lastInsertRowid }
    set { reader.connection.lastInsertRowid = newValue }
  }

  // MARK: Batches

  public var isInBatch: Bool { batchFloor != nil }

  /// Begins a transaction around several reads. It must be ended before the loop goes on to
  /// something else.
  public func beginBatch() throws(RequestError) {
    guard batchFloor == nil else { return }
    let floor = tracker.position
    try reader.begin()
    batchFloor = floor
    batchMark = nil
  }

  public func endBatch() {
    guard batchFloor != nil else { return }
    batchFloor = nil
    batchMark = nil
    // A COMMIT of a transaction that only read cannot fail in a way that anybody could act on.
    try? reader.end()
  }

  // MARK: Reads

  /// Runs a read, and writes its result to `sink`.
  public func read<Sink: ResultSink & ~Copyable>(
    _ cached: CachedStatement, _ arguments: Arguments, into sink: inout Sink
  ) throws(RequestError) -> Outcome {
    guard !cached.isSlow else { return .handOver }
    reader.budget.renew(checks: checksMax)
    var mark = SnapshotMark?.none
    do throws(ReadFailure) {
      let fits = try reader.run(
        cached, arguments, into: &sink, rowsMax: limits.chunkRowsMax,
        bytesMax: limits.chunkBytesMax
      ) { () throws(RequestError) in mark = try presentMark() }
      guard fits, let mark else {
        cached.isSlow = true
        return .handOver
      }
      return .finished(mark)
    } catch {
      guard case .sqlite(let error) = error else { throw error.error }
      if error.primaryCode == SQLiteError.interrupted {
        cached.isSlow = true
        return .handOver
      }
      // The pool can wait for those who hold the locks.
      if error.primaryCode == SQLiteError.busy { return .handOver }
      throw RequestError(error)
    }
  }

  /// What a snapshot that is taken now would be told as.
  public func mark() throws(RequestError) -> SnapshotMark { try reader.mark() }

  /// To be asked once the snapshot is taken. In a batch one answer serves all.
  private func presentMark() throws(RequestError) -> SnapshotMark {
    if let batchMark { return batchMark }
    let mark = try reader.mark()
    // A statement that reads no table takes no snapshot.
    if batchFloor != nil, reader.connection.hasSnapshot { batchMark = mark }
    return mark
  }
}

/// The readers of a node: one for each event loop, and the pool.
public final class NodeReaders: Sendable {
  public let pool: ReadPool
  private let source: ReadSource
  private let loops = LoopReaderTable()

  public init(source: ReadSource) {
    self.source = source
    pool = ReadPool(source: source)
  }

  /// The reader of the loop that this is called on.
  ///
  /// - Throws: when the database cannot be opened; it is tried again the next time.
  public func loopReader(on loop: any EventLoop) throws(RequestError) -> LoopReader {
    if let reader = loops.reader(of: loop) { return reader }
    let reader = try LoopReader(source: source)
    loops.set(reader, of: loop)
    return reader
  }

  /// Closes the pool; readers that are at work are closed as they come back.
  public func close() { pool.close() }
}
