// What a primary does about damaged pages: nothing repairs them there, so it stops before they get
// into an answer, a transaction or a replica.

import Logging
import Serving
import Store
import Synchronization
import WALShip

/// Stops a primary whose file is damaged. Safe to use from any thread.
final class PrimaryHalt: Sendable {
  private let path: String
  private let health: NodeHealth
  private let writer: Writer
  private let logger: Logger
  private let server = Mutex<ShipServer?>(nil)

  init(path: String, health: NodeHealth, writer: Writer, logger: Logger) {
    self.path = path
    self.health = health
    self.writer = writer
    self.logger = logger
  }

  var shipServer: ShipServer? {
    get { server.withLock { $0 } }
    set { server.withLock { $0 = newValue } }
  }

  func found(_ wrong: [WrongPage]) {
    let pages = wrong.prefix(8).map { "\($0.pgno)" }.joined(separator: ", ")
    let damage = "\(wrong.count == 1 ? "page" : "pages") \(pages) of the primary's file are damaged"
    logger.critical(
      """
      the database is damaged on disk: reads and writes stop, nothing is shipped. Replicas have good \
      pages: stop this node, take a copy with `edge-sql backup REPLICA FILE`, and put it in place \
      with `edge-sql restore FILE \(path)`; or promote a replica
      """, metadata: ["pages": "\(pages)", "count": "\(wrong.count)"])
    health.set("\(damage): its operator must restore it, the log says how")
    shipServer?.halt(damage)
    writer.halt(damage)
  }
}
