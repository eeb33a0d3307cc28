// Which databases a node serves, as those see it who serve its clients: they ask for a database by
// its name, and hold it while they use it.

import NIOCore

/// Keeps a database open while it lives.
public class DatabaseLease {
  public let node: NodeContext
  public init(node: NodeContext) { self.node = node }
}

/// The databases of a node. Safe to use from any thread.
public protocol DatabaseDirectory: Sendable {
  /// Opens a database, if it is not open already.
  ///
  /// - Parameters:
  ///   - name: nil for the default one.
  ///   - completion: called on `loop`, perhaps before this returns; with `DATABASE_NOT_FOUND` when
  ///     there is none of that name.
  func acquire(
    _ name: String?, on loop: any EventLoop,
    completion: @escaping (Result<DatabaseLease, RequestError>) -> Void)
}

/// A node that serves one database.
public struct SingleDatabase: DatabaseDirectory {
  private let node: NodeContext
  public init(_ node: NodeContext) { self.node = node }

  public func acquire(
    _ name: String?, on loop: any EventLoop,
    completion: @escaping (Result<DatabaseLease, RequestError>) -> Void
  ) {
    guard let name, name != node.databaseName else {
      return completion(.success(DatabaseLease(node: node)))
    }
    completion(
      .failure(
        RequestError(
          .databaseNotFound, "there is no database \(name.prefix(64)) on this node")))
  }
}
