// What a replica holds: nothing yet, a first copy that is not complete, or a database. Takes what
// the upstream session receives to whichever of the three it is.

import Logging
import NIOCore
import Serving
import Store
import WALShip

/// The content of a replica. It belongs to the applier's thread.
final class ReplicaContent: @unchecked Sendable {  // confined to the applier's loop
  private enum State {
    case empty
    case copying(ReplicaCopy)
    case database(Applier)
  }

  private let path: String
  private let ring: TransactionRing
  private let logger: Logger
  private var state: State
  private let decoder = PageDecoder()
  private var page: PageMemory?
  /// Called once, when the first copy has become a database.
  var onDatabase: (ReplicaDatabase) throws -> Void = { _ in }
  /// Called once, when a database that another program had written to holds what the upstream has.
  var onHealed: (ReplicaDatabase) throws -> Void = { _ in }
  /// How far the present catch-up is.
  private(set) var progress: NodeStatus.CopyProgress?

  /// Transactions that are published together when they queue up.
  private static let stagedPagesMax = 512

  init(path: String, database: ReplicaDatabase?, ring: TransactionRing, logger: Logger) throws {
    self.path = path
    self.ring = ring
    self.logger = logger
    if let database {
      state = .database(Applier(database: database, ring: ring))
    } else if let copy = try ReplicaCopy(resuming: path) {
      state = .copying(copy)
    } else {
      state = .empty
    }
  }

  var database: ReplicaDatabase? {
    if case .database(let applier) = state { applier.database } else { nil }
  }

  /// How this replica introduces itself.
  func join(_ node: NodeIdentity, wantsComparison: Bool) -> ShipJoin {
    switch state {
    case .empty:
      ShipJoin(node: node, want: .copy, position: .none, pageSize: 0)
    case .copying(let copy):
      ShipJoin(
        node: node, want: .compare,
        position: Position(
          database: copy.map.identity.database, epoch: Epoch(0), txid: .zero, checksum: .empty),
        pageSize: UInt32(copy.map.identity.pageSize.bytes))
    case .database(let applier):
      ShipJoin(
        node: node, want: wantsComparison || applier.database.isForeign ? .compare : .follow,
        position: applier.database.tracker.position,
        pageSize: UInt32(applier.database.pageSize.bytes))
    }
  }

  /// The upstream said who it is.
  func welcomed(_ welcome: ShipWelcome) throws {
    switch state {
    case .empty:
      guard let pageSize = PageSize(Int(welcome.pageSize)) else {
        throw ShipProtocolError.malformed("there is no page size \(welcome.pageSize)")
      }
      state = .copying(
        try ReplicaCopy(
          beginning: path,
          identity: PageMapIdentity(database: welcome.position.database, pageSize: pageSize),
          history: welcome.history))
    case .copying: break
    case .database(let applier): try applier.database.adopt(welcome.position.database)
    }
  }

  /// The copy is of a database that the upstream does not serve.
  func discardCopy() {
    guard case .copying(let copy) = state else { return }
    copy.discard()
    state = .empty
  }

  /// The page map of the database was brought up to date.
  func refresh() {
    if case .database(let applier) = state { applier.abandon() }
  }

  /// The checksums for a comparison. A database is read again first: its map may not be what is on
  /// the disk.
  func checksums() throws -> [UInt64] {
    switch state {
    case .empty: return []
    case .copying(let copy): return copy.checksums
    case .database(let applier):
      applier.abandon()
      let wrong = try applier.database.scanPages()
      if wrong > 0 {
        logger.warning("pages did not match the page map", metadata: ["pages": "\(wrong)"])
      }
      state = .database(Applier(database: applier.database, ring: ring))
      let map = applier.database.map
      return map.entries(from: Pgno(1), count: Int(map.live.pageCount)).map(\.checksum)
    }
  }

  // MARK: From upstream

  func stage(_ body: ByteBuffer, _ header: TransactionHeader, epoch: Epoch) throws
    -> Applier.Outcome
  {
    guard case .database(let applier) = state else {
      throw ShipProtocolError.unexpected("a transaction before the first copy")
    }
    let outcome = try applier.stage(body, header, epoch: epoch)
    if outcome == .staged, applier.stagedPages >= Self.stagedPagesMax { try applier.publish() }
    return outcome
  }

  /// Publishes what was staged since.
  func publish() throws {
    guard case .database(let applier) = state, applier.hasTransactions else { return }
    try applier.publish()
  }

  func catchUpBegan(_ announcement: ShipCatchUp) {
    progress = NodeStatus.CopyProgress(
      receivedBytes: 0, expectedBytes: Int(announcement.pages) * Int(announcement.pageSize))
    if case .database(let applier) = state { applier.abandon() }
  }

  func stagePages(_ body: ByteBuffer) throws {
    switch state {
    case .empty: throw ShipProtocolError.unexpected("pages before a welcome")
    case .database(let applier):
      let before = applier.stagedPages
      try applier.stagePages(body)
      progress?.receivedBytes +=
        (applier.stagedPages - before) * applier.database.pageSize.bytes
    case .copying(let copy):
      let page = page ?? PageMemory(bytes: copy.map.identity.pageSize.bytes)
      self.page = page
      try body.withUnsafeReadableBytes { bytes in
        try CatchUpPages(bytes).forEach(pageSize: copy.map.identity.pageSize, decoder, page) {
          pgno, txid in
          try copy.write(pgno, page.readOnly, txid: txid)
          progress?.receivedBytes += page.readOnly.count
        }
      }
    }
  }

  /// Ends a consistent round: what has arrived becomes visible as a whole.
  func endRound(_ end: ShipRoundEnd) throws -> Applier.Outcome {
    defer { progress = nil }
    switch state {
    case .empty: throw ShipProtocolError.unexpected("the end of a round before a welcome")
    case .database(let applier):
      guard applier.stageRoundEnd(end) == .staged else { return .mismatch }
      try applier.publish(history: end.history)
      if applier.database.isForeign {
        applier.database.healed()
        try onHealed(applier.database)
      }
      return .staged
    case .copying(let copy):
      let finished = try copy.finish(
        at: end.position, history: end.history, pageCount: end.pageCount)
      guard finished else { return .mismatch }
      guard let header = try ReplicaDatabase.inspect(path) else {
        throw ReplicaDatabase.Failure.foreignFile(path)
      }
      let database = try ReplicaDatabase(path: path, header: header)
      try database.recoverMap()
      state = .database(Applier(database: database, ring: ring))
      page = nil
      try onDatabase(database)
      return .staged
    }
  }

  /// Forgets what was not published: the connection is gone.
  func abandon() {
    progress = nil
    if case .database(let applier) = state { applier.abandon() }
  }
}
