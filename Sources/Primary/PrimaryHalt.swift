// What a primary does about damaged pages: nothing repairs them there, so it stops before they get
// into an answer, a transaction or a replica.

import Logging
import Serving
import Store
import Synchronization
import WALShip

/// Stops a primary whose file is damaged. Safe to use from any thread.
final class PrimaryHalt: Sendable {
  private let database: PrimaryDatabase
  private let health: NodeHealth
  private let writer: Writer
  private let logger: Logger
  /// The server knows this object, too.
  private struct Link: Sendable { weak var server: ShipServer? }
  private let link = Mutex(Link())

  init(database: PrimaryDatabase, health: NodeHealth, writer: Writer, logger: Logger) {
    self.database = database
    self.health = health
    self.writer = writer
    self.logger = logger
  }

  var shipServer: ShipServer? {
    get { link.withLock { $0.server } }
    set { link.withLock { $0.server = newValue } }
  }

  func found(_ wrong: [WrongPage]) {
    let pages = wrong.prefix(8).map { "\($0.pgno)" }.joined(separator: ", ")
    let damage = "\(wrong.count == 1 ? "page" : "pages") \(pages) of the primary's file are damaged"
    logger.critical(
      """
      the database is damaged on disk: reads and writes stop, nothing is shipped. Replicas have good \
      pages: stop this node, take a copy with `edge-sql backup REPLICA FILE`, and put it in place \
      with `edge-sql restore FILE \(database.path)`; or promote a replica
      """, metadata: ["pages": "\(pages)", "count": "\(wrong.count)"])
    health.set("\(damage): its operator must restore it, the log says how")
    shipServer?.halt(ShipRefusal(.damaged, damage))
    writer.halt(RequestError(.damaged, damage))
  }

  /// A follower of this database has seen a later epoch: somebody promoted another primary.
  func superseded(by epoch: Epoch) {
    guard database.map.base.superseding < epoch else { return }
    logger.critical(
      """
      another primary has begun a later epoch of this database: writes stop here. Stop this node, \
      then `edge-sql demote \(database.path)` lets it follow the other one
      """, metadata: ["epoch": "\(epoch)"])
    let reason = "another primary has begun epoch \(epoch): this one was superseded"
    shipServer?.halt(ShipRefusal(.olderHistory, reason))
    writer.halt(RequestError(.primaryUnavailable, reason))
    do {
      try database.noteSuperseded(by: epoch)
    } catch {
      logger.error("the later epoch could not be noted", metadata: ["error": "\(error)"])
    }
  }
}
