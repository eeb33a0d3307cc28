// Turns messages from upstream into the state that readers see: decodes pages against their present
// version, checks that they add up to what the sender says, and publishes. Nothing is visible
// before it adds up.

import NIOCore
import Serving
import Store
import WALShip

/// Applies transactions and catch-up pages to a replica's database. It belongs to the applier's
/// thread.
final class Applier {
  let database: ReplicaDatabase
  private let ring: TransactionRing
  private let decoder = PageDecoder()
  private let page: PageMemory
  private let base: PageMemory
  /// What the map will say of the pages in the open batch.
  private var staged: [Pgno: PageMapEntry] = [:]
  private var checksum: DatabaseChecksum
  private var pageCount: UInt32
  /// The last page in the open batch.
  private var highest: UInt32 = 0
  /// Transactions of the open batch, for the followers of this node.
  private var relayed: [(txid: TXID, body: ByteBuffer, pages: Int)] = []
  /// The state at the end of the open batch; nil while a catch-up is in the middle.
  private var target: Position?

  enum Outcome: Equatable {
    case staged
    /// The pages do not add up to the checksum that the sender told.
    case mismatch
  }

  init(database: ReplicaDatabase, ring: TransactionRing) {
    self.database = database
    self.ring = ring
    page = PageMemory(bytes: database.pageSize.bytes)
    base = PageMemory(bytes: database.pageSize.bytes)
    checksum = database.map.live.checksum
    pageCount = database.map.live.pageCount
  }

  /// Pages that wait to be published.
  var stagedPages: Int { staged.count }
  var hasTransactions: Bool { target != nil }

  /// The transaction that will be visible after the next publish.
  var txid: TXID { target?.txid ?? database.tracker.position.txid }

  // MARK: Live transactions

  /// Adds a transaction to the open batch.
  func stage(_ body: ByteBuffer, _ header: TransactionHeader, epoch: Epoch) throws -> Outcome {
    try body.withUnsafeReadableBytes { bytes in
      var reader = BodyReader(bytes)
      _ = try reader.transactionHeader()
      for _ in 0..<header.pages {
        let encoded = try reader.encodedPage()
        guard encoded.pgno.rawValue <= header.pageCount else {
          throw ShipProtocolError.malformed("page \(encoded.pgno) lies behind the last one")
        }
        if encoded.encoding.needsBase {
          try database.injector.readPage(encoded.pgno, into: base.bytes)
        }
        try decoder.decode(
          encoded.encoding, payload: encoded.payload,
          base: encoded.encoding.needsBase ? base.readOnly : nil, into: page.bytes)
        try take(encoded.pgno, txid: header.txid)
      }
      guard reader.isAtEnd else { throw ShipProtocolError.malformed("a transaction is too long") }
    }
    resize(to: header.pageCount)
    guard checksum == header.checksum else { return .mismatch }
    target = Position(
      database: database.map.identity.database, epoch: epoch, txid: header.txid,
      checksum: header.checksum)
    relayed.append((header.txid, body, header.pages))
    return .staged
  }

  private func take(_ pgno: Pgno, txid: TXID) throws {
    let entry = PageMapEntry(txid: txid, checksum: pageChecksum(page.readOnly, pgno: pgno))
    checksum.toggle(present(pgno).checksum)
    checksum.toggle(entry.checksum)
    staged[pgno] = entry
    highest = max(highest, pgno.rawValue)
    try database.injector.append(pgno, page.readOnly)
  }

  private func present(_ pgno: Pgno) -> PageMapEntry { staged[pgno] ?? database.map.entry(pgno) }

  private func resize(to count: UInt32) {
    // Only pages that are there are gone through: numbers from the wire can be far apart.
    let known = database.map.live.pageCount
    if count < highest {
      for (pgno, entry) in staged where pgno.rawValue > count {
        checksum.toggle(entry.checksum)
        staged[pgno] = pgno.rawValue <= known ? .absent : nil
      }
      highest = count
    }
    if count < known {
      for number in count + 1...known where staged[Pgno(number)] == nil {
        checksum.toggle(present(Pgno(number)).checksum)
        staged[Pgno(number)] = .absent
      }
    }
    pageCount = count
  }

  // MARK: Catch-up

  /// Adds the pages of a catch-up message.
  func stagePages(_ body: ByteBuffer) throws {
    try body.withUnsafeReadableBytes { bytes in
      try CatchUpPages(bytes).forEach(pageSize: database.pageSize, decoder, page) { pgno, txid in
        try take(pgno, txid: txid)
      }
    }
  }

  /// Ends a consistent round.
  func stageRoundEnd(_ end: ShipRoundEnd) -> Outcome {
    resize(to: end.pageCount)
    guard checksum == end.position.checksum else { return .mismatch }
    target = end.position
    return .staged
  }

  // MARK: Publishing

  /// Makes the open batch visible to every reader.
  func publish(history: EpochHistory? = nil) throws {
    guard let target else { return }
    try database.map.reserve(pages: Int(max(highest, pageCount)))
    try database.injector.publish(pageCount: pageCount, position: target)
    let place = database.injector.place
    try database.map.update { editor in
      for (pgno, entry) in staged { try editor.set(pgno, entry) }
      try editor.resize(to: pageCount)
      let goesBack = target.txid < editor.live.txid
      editor.live.txid = target.txid
      if goesBack { editor.clamp() }
      editor.live.place = LogPlace(salts: place.salts, frame: place.frame)
    }
    for transaction in relayed {
      ring.append(
        transaction.txid, body: transaction.body, pages: transaction.pages,
        rawBytes: transaction.pages * database.pageSize.bytes)
    }
    if relayed.isEmpty { ring.removeAll() }
    database.tracker.advance(to: target, at: place, history: history)
    reset()
  }

  /// Forgets everything that was not published.
  func abandon() {
    database.injector.abandonBatch()
    reset()
  }

  private func reset() {
    staged.removeAll(keepingCapacity: staged.count < 4096)
    relayed.removeAll(keepingCapacity: true)
    target = nil
    highest = 0
    checksum = database.map.live.checksum
    pageCount = database.map.live.pageCount
  }
}

/// The pages of one catch-up message.
public struct CatchUpPages {
  private let bytes: UnsafeRawBufferPointer
  public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// Decodes each page into `page`, then calls `body`.
  ///
  /// - Throws: `ShipProtocolError`, `PageCodecError`; the message is not to be believed then.
  public func forEach(
    pageSize: PageSize, _ decoder: PageDecoder, _ page: PageMemory,
    _ body: (Pgno, TXID) throws -> Void
  ) throws {
    var reader = BodyReader(bytes)
    let count = try reader.varint()
    for _ in 0..<min(count, UInt64(bytes.count)) {
      let txid = try reader.txid()
      let encoded = try reader.encodedPage()
      guard !encoded.encoding.needsBase, encoded.pgno != pageSize.lockPage else {
        throw ShipProtocolError.malformed("a catch-up page is a delta, or the lock page")
      }
      try decoder.decode(encoded.encoding, payload: encoded.payload, base: nil, into: page.bytes)
      try body(encoded.pgno, txid)
    }
    guard reader.isAtEnd else {
      throw ShipProtocolError.malformed("a catch-up message is too long")
    }
  }
}
