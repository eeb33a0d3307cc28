// How what connects to a node finds the database that it wants: the same for a node with one
// database and for one with thousands that are opened when somebody asks for them.

import NIOCore
import Store

/// The databases of a node. Safe to use from any thread.
public protocol DatabaseDirectory: AnyObject, Sendable {
  /// Opens the database if it is closed, and keeps it open for as long as the lease lives.
  ///
  /// - Parameters:
  ///   - name: nil for the default database.
  ///   - completion: is called on `loop`, at once when the caller is there and nothing need be done;
  ///     the error is the client's answer.
  func acquire(
    _ name: String?, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void)
}

/// Keeps one database open. Whoever uses its node holds on to the lease.
public final class DatabaseLease: Sendable {
  public let node: NodeContext
  private let onEnd: (@Sendable () -> Void)?

  /// - Parameter onEnd: is called once, when nobody holds the lease any more.
  public init(node: NodeContext, onEnd: (@Sendable () -> Void)? = nil) {
    self.node = node
    self.onEnd = onEnd
  }

  deinit { onEnd?() }
}

/// The directory of a node with one database, which is open as long as the node runs.
public final class SingleDatabase: DatabaseDirectory {
  private let lease: DatabaseLease

  public init(_ node: NodeContext) { lease = DatabaseLease(node: node) }

  public func acquire(
    _ name: String?, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void
  ) {
    let result: Result<DatabaseLease, RequestError> =
      if let name, name != lease.node.databaseName {
        .failure(.unknownDatabase(name))
      } else {
        .success(lease)
      }
    if loop.inEventLoop {
      completion(result)
    } else {
      loop.execute { completion(result) }
    }
  }
}
