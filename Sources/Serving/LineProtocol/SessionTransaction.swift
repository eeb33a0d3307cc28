// Where the interactive transaction of a session is: on a reader of this node while it only reads,
// at the primary from its first write on.

import NIOCore
import Store
import WALShip

/// The transaction of a session.
enum SessionTransaction {
  case none
  /// A snapshot of this node.
  case reading(LocalTransaction)
  case writing(WriteTransaction)
  /// It was rolled back, but not because the client said so. Everything fails until the client says
  /// COMMIT or ROLLBACK: what it has sent already must not run outside of the transaction it was
  /// meant for.
  case failed(RequestError)
}

/// A transaction that is open at the primary.
struct WriteTransaction {
  var id: UInt64
  /// The open savepoints, the outermost first.
  var savepoints: [String] = []
  /// It began with a SAVEPOINT, so the RELEASE of that one commits.
  var endsWithSavepoint = false

  /// Whether RELEASE of `name` releases the outermost savepoint.
  func isOutermost(_ name: String) -> Bool {
    savepoints.lastIndex(of: name.lowercased()) == 0
  }

  /// Follows what a statement has done.
  mutating func note(_ kind: StatementKind?) {
    switch kind {
    case .savepoint(let name): savepoints.append(name.lowercased())
    case .release(let name):
      if let index = savepoints.lastIndex(of: name.lowercased()) {
        savepoints.removeSubrange(index...)
      }
    case .rollbackTo(let name):
      if let index = savepoints.lastIndex(of: name.lowercased()) {
        savepoints.removeSubrange((index + 1)...)
      }
    default: break
    }
  }
}

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

  init(reader: PooledReader, place: LogPlace) {
    self.reader = reader
    self.place = place
  }

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
