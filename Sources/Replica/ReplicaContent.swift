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
    /// The end of a first copy failed in the middle: what is there must be looked at again.
    case unsettled
  }

  private let path: String
  private let ring: TransactionRing
  private let logger: Logger
  private let loop: any EventLoop
  private var state: State
  /// Pages that were found damaged, with what their bytes add up to now.
  private(set) var damaged: [Pgno: UInt64] = [:]
  /// Those among them that the comparison under way includes.
  private var askedFor: [Pgno] = []
  /// The database is being read for a comparison: nothing may be applied.
  private(set) var isPreparing = false
  private let decoder = PageDecoder()
  private var page: PageMemory?
  /// Called once, when the first copy has become a database.
  var onDatabase: (ReplicaDatabase) throws -> Void = { _ in }
  /// Called once, when a database that could not be served as it was holds what the upstream has.
  var onCaughtUp: (ReplicaDatabase) throws -> Void = { _ in }
  /// Called with the number of pages that are not what they should be, and will be compared.
  var onDoubt: (Int) -> Void = { _ in }
  /// Called when no page is known to be damaged any more.
  var onRepaired: () -> Void = {}
  /// How far the present catch-up is.
  private(set) var progress: NodeStatus.CopyProgress?

  /// Transactions that are published together when they queue up.
  private static let stagedPagesMax = 512

  init(
    path: String, database: ReplicaDatabase?, ring: TransactionRing, loop: any EventLoop,
    logger: Logger
  ) throws {
    self.path = path
    self.loop = loop
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
    case .empty, .unsettled:
      ShipJoin(node: node, want: .copy, position: .none, pageSize: 0)
    case .copying(let copy):
      ShipJoin(
        node: node, want: .compare,
        position: Position(
          database: copy.map.identity.database, epoch: Epoch(0), txid: .zero, checksum: .empty),
        pageSize: UInt32(copy.map.identity.pageSize.bytes))
    case .database(let applier):
      join(node, applier.database, wantsComparison: wantsComparison)
    }
  }

  private func join(
    _ node: NodeIdentity, _ database: ReplicaDatabase, wantsComparison: Bool
  ) -> ShipJoin {
    let mustCompare = wantsComparison || database.isForeign || database.isDoubtful
    return ShipJoin(
      node: node, want: mustCompare ? .compare : .follow, position: database.tracker.position,
      seen: database.tracker.epochs.current, pageSize: UInt32(database.pageSize.bytes))
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
    case .copying, .unsettled: break
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

  // MARK: Comparisons

  /// Notes pages whose bytes were damaged; a comparison will ask for them.
  func note(damaged wrong: [WrongPage]) {
    for page in wrong { damaged[page.pgno] = page.found }
  }

  /// Gets ready to be compared, beside the loop: nothing may be applied until `completion` is
  /// called, on the loop.
  ///
  /// All pages are read before they are all compared: the map may not be what is on the disk.
  ///
  /// - Parameter keepsAside: the present state will be lost, and is kept in a file of its own.
  func prepare(
    _ scope: FollowerPages.Scope, keepsAside: Bool,
    completion: @escaping (Result<Void, any Error>) -> Void
  ) {
    guard case .database(let applier) = state, scope == .all || keepsAside else {
      return completion(.success(()))
    }
    applier.abandon()
    isPreparing = true
    let preparation = ComparisonPreparation(
      database: applier.database, readsAll: scope == .all, keepsAside: keepsAside, logger: logger)
    let bound = NIOLoopBound((self, completion), eventLoop: loop)
    preparation.run { [loop] result in
      loop.execute {
        let (content, completion) = bound.value
        content.isPreparing = false
        completion(Result { try content.take(try result.get()) })
      }
    }
  }

  private func take(_ wrong: [WrongPage]) throws {
    guard case .database(let applier) = state else { return }
    if !wrong.isEmpty {
      logger.warning("pages did not match the page map", metadata: ["pages": "\(wrong.count)"])
      onDoubt(wrong.count)
    }
    try applier.database.correctMap(wrong)
    state = .database(Applier(database: applier.database, ring: ring))
  }

  /// The checksums for a comparison, as messages carry them.
  func checksums(_ scope: FollowerPages.Scope) -> [ShipPageChecksums] {
    switch (state, scope) {
    case (.empty, _), (.unsettled, _): return ShipPageChecksums.parts(of: [])
    case (.copying(let copy), _): return ShipPageChecksums.parts(of: copy.checksums)
    case (.database(let applier), .all):
      let map = applier.database.map
      damaged = [:]  // the map was corrected instead
      return ShipPageChecksums.parts(
        of: map.entries(from: Pgno(1), count: Int(map.live.pageCount)).map(\.checksum))
    case (.database(let applier), .since(let txid)):
      let map = applier.database.map
      var told: [Pgno: UInt64] = [:]
      var cursor: UInt32? = 0
      while let after = cursor {
        let found = map.changedPages(
          since: txid, after: after, through: map.live.pageCount, limit: .max)
        for pgno in found.pages { told[pgno] = map.entry(pgno).checksum }
        cursor = found.cursor
      }
      askedFor = Array(damaged.keys)
      return ShipPageChecksums.parts(of: told.merging(damaged) { $1 })
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
    case .empty, .unsettled: throw ShipProtocolError.unexpected("pages before a welcome")
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
    case .empty, .unsettled:
      throw ShipProtocolError.unexpected("the end of a round before a welcome")
    case .database(let applier):
      guard applier.stageRoundEnd(end) == .staged else { return .mismatch }
      try applier.publish(history: end.history)
      try applier.database.noteHistory()
      try applier.database.healed()
      for pgno in askedFor { damaged[pgno] = nil }
      askedFor = []
      if damaged.isEmpty { onRepaired() }
      return .staged
    case .copying(let copy):
      do {
        let finished = try copy.finish(
          at: end.position, history: end.history, pageCount: end.pageCount)
        guard finished else { return .mismatch }
      } catch {
        state = .unsettled
        throw error
      }
      state = .unsettled
      try settle()
      return .staged
    }
  }

  /// Looks again at what is there, where the end of a first copy did not come to its own end.
  func settle() throws {
    guard case .unsettled = state else { return }
    page = nil
    try ReplicaFiles.completeRename(path)
    if let header = try ReplicaDatabase.inspect(path) {
      let database = try ReplicaDatabase(path: path, header: header)
      try database.recoverMap()
      state = .database(Applier(database: database, ring: ring))
      try onDatabase(database)
    } else {
      state = try ReplicaCopy(resuming: path).map(State.copying) ?? .empty
    }
  }

  /// The service stops in good order.
  func close() {
    guard case .database(let applier) = state else { return }
    do {
      try applier.database.close()
    } catch {
      logger.warning("the end was not noted", metadata: ["error": "\(error)"])
    }
  }

  /// Everything up to the upstream's transaction `head` may be here.
  func checkServing(head: TXID) throws {
    guard case .database(let applier) = state, applier.database.reached(head: head) else { return }
    try onCaughtUp(applier.database)
  }

  /// Forgets what was not published: the connection is gone.
  func abandon() {
    progress = nil
    askedFor = []
    if case .database(let applier) = state { applier.abandon() }
  }
}
