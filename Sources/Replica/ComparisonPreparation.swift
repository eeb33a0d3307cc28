// What a replica does before it is compared with its upstream: keeps a state that is about to be
// lost, and reads all pages when nobody can say which of them are right.

import Logging
import Store
import WALShip

/// Reads a replica's database on a thread of its own, while nothing is applied to it.
struct ComparisonPreparation: Sendable {
  var database: ReplicaDatabase
  var readsAll: Bool
  var keepsAside: Bool
  var logger: Logger

  /// - Parameter completion: gets the pages that are not what the page map says.
  func run(completion: @escaping @Sendable (Result<[WrongPage], any Error>) -> Void) {
    let thread = DatabaseThread()
    thread.submit {
      completion(
        Result {
          if keepsAside { keep() }
          guard readsAll else { return [] }
          return try PageCheck(path: database.path, map: database.map, tracker: database.tracker)
            .checkAll()
        })
    }
    thread.stop()
  }

  /// A full disk must not keep the replica from following: then the state is lost, and the log says
  /// so.
  private func keep() {
    let position = "\(database.tracker.position)"
    do {
      let path = try DivergedCopies.keep(
        database.path, pageSize: database.pageSize, tracker: database.tracker)
      logger.warning(
        "this replica leaves a history that the upstream does not share; its state is kept",
        metadata: ["position": "\(position)", "file": "\(path)"])
    } catch {
      logger.error(
        "this replica leaves a history that the upstream does not share; its state is lost",
        metadata: ["position": "\(position)", "error": "\(error)"])
    }
  }
}
