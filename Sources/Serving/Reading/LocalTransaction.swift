// A transaction that has only read so far: a snapshot of this node, and what its client has seen of
// it. Sessions of every protocol have such ones.

import NIOCore
import Store
import WALShip

/// A transaction that reads a snapshot of this node, and the record of its reads. It is used on one
/// loop alone.
final class LocalTransaction {
  let reader: PooledReader
  /// Where the snapshot is in the WAL.
  let place: LogPlace
  /// What tokens of the snapshot say: its position, or a later one.
  private(set) var position = Position.none
  /// The snapshot's transaction; zero, which no read was made at, when that is not known for
  /// certain. The primary does not check the reads of a transaction that saw its present state.
  private var txid = TXID.zero
  /// The stream that is under way.
  var stream: RowStream?
  var isExpired = false
  var alarm: Scheduled<Void>?
  private(set) var reads: [ObservedRead] = []
  private var resultBytes = 0
  /// False when it has read more than can be checked again.
  private(set) var canWrite = true
  /// What the primary said when it found that reads would give another result by now.
  var hasChanged: RequestError?

  init(reader: PooledReader, place: LogPlace) {
    self.reader = reader
    self.place = place
  }

  /// Why a transaction can no longer write that has read too much.
  static let readTooMuch = RequestError(
    code: "SQLITE_BUSY_SNAPSHOT",
    message: "the transaction has read more than \(TransactionBasis.readsMax) results or "
      + "\(TransactionBasis.resultBytesMax) bytes, and can no longer write; "
      + "BEGIN IMMEDIATE has no such limit",
    retry: true)

  /// - Parameter isExact: false when `position` may be later than the snapshot.
  func setPosition(_ position: Position, isExact: Bool) {
    self.position = position
    txid = isExact ? position.txid : .zero
  }

  /// What the primary must find unchanged; nil when nothing was read.
  var basis: TransactionBasis? {
    guard !reads.isEmpty else { return nil }
    return TransactionBasis(reads: reads, epoch: position.epoch, txid: txid)
  }

  func record(_ statement: StatementRequest, _ hash: ResultHasher) {
    resultBytes += hash.byteCount
    guard canWrite, reads.count < TransactionBasis.readsMax,
      resultBytes <= TransactionBasis.resultBytesMax
    else {
      canWrite = false
      reads = []
      return
    }
    var statement = statement
    // A copy: the text lies in the memory of its line.
    statement.sql = SQLText(bytes: ByteBuffer(bytes: statement.sql.bytes.readableBytesView))
    reads.append(ObservedRead(statement: statement, resultHash: hash.value))
  }

  /// Notes a read that failed after its client saw rows of it: that cannot be checked again.
  func recordPart() {
    canWrite = false
    reads = []
  }

  // MARK: Its beginning and its end

  /// Takes a snapshot, and finds out which position it is.
  ///
  /// - Parameter completion: called once, on `loop`.
  static func open(
    on node: NodeContext, loop: any EventLoop,
    completion: @escaping (Result<LocalTransaction, RequestError>) -> Void
  ) {
    let pool = node.readers.pool
    let bound = NIOLoopBound(completion, eventLoop: loop)
    pool.checkOut(on: loop) { result in
      let reader: PooledReader
      switch result {
      case .failure(let error): return bound.value(.failure(error))
      case .success(let found): reader = found
      }
      reader.perform(
        on: loop, milliseconds: node.limits.statementMilliseconds,
        { connection throws(RequestError) in try connection.beginSnapshot() },
        completion: { result in
          switch result {
          case .failure(let error):
            pool.checkIn(reader, on: loop)
            bound.value(.failure(error))
          case .success(let place):
            let local = LocalTransaction(reader: reader, place: place)
            local.findPosition(node, on: loop, completion: bound.value)
          }
        })
    }
  }

  private func findPosition(
    _ node: NodeContext, on loop: any EventLoop,
    completion: @escaping (Result<LocalTransaction, RequestError>) -> Void
  ) {
    let tracker = node.tracker
    let wait = PlaceWait(tracker: tracker, place: place, loop: loop) { found in
      let exact = tracker.exactPosition(at: self.place)
      guard let position = exact ?? found else {
        self.close(pool: node.readers.pool, on: loop)
        return completion(.failure(PlaceWait.unnumbered))
      }
      self.setPosition(position, isExact: exact != nil)
      completion(.success(self))
    }
    wait.start(milliseconds: node.limits.statementMilliseconds)
  }

  /// Ends the snapshot and gives the reader back.
  func close(pool: ReadPool, on loop: any EventLoop) {
    alarm?.cancel()
    alarm = nil
    let reader = reader
    if let stream {
      stream.end(on: loop) {}
      self.stream = nil
    }
    reader.perform(
      on: loop, milliseconds: 1000,
      { connection throws(RequestError) in try connection.end() },
      completion: { _ in pool.checkIn(reader, on: loop) })
  }
}
