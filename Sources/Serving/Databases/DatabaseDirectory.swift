// How what connects to a node finds the database that it wants: the same for a node with one
// database and for one with thousands that are opened when somebody asks for them.

import NIOCore
import Store
import WALShip

/// The databases of a node. Safe to use from any thread.
public protocol DatabaseDirectory: AnyObject, Sendable {
  /// Opens the database if it is closed, and keeps it open for as long as the lease lives.
  ///
  /// - Parameters:
  ///   - name: nil for the default database.
  ///   - loop: that of the caller.
  ///   - completion: called on `loop`, perhaps before this returns; the error is the client's
  ///     answer, `DATABASE_NOT_FOUND` when there is none of that name.
  func acquire(
    _ name: String?, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void)

  /// The database of those who name none; it need not be there.
  var defaultName: String { get }
  /// The databases that there are, sorted.
  var names: [String] { get }
  /// How databases are made and removed; nil where they cannot be.
  var administration: (any DatabaseAdministration)? { get }
  /// How long a database that nobody uses stays open; nil for as long as the node runs.
  var idleMilliseconds: Int? { get }
  /// Closes the readers of what stays open, once no client is left.
  func closeReaders()
}

/// Keeps one database open. Whoever uses its node holds on to the lease.
public final class DatabaseLease: Sendable {
  public let node: NodeContext
  private let revocation: (@Sendable () -> Bool)?
  private let onEnd: (@Sendable () -> Void)?

  /// - Parameters:
  ///   - revocation: whether the database is to be removed.
  ///   - onEnd: is called once, when nobody holds the lease any more.
  public init(
    node: NodeContext, revocation: (@Sendable () -> Bool)? = nil,
    onEnd: (@Sendable () -> Void)? = nil
  ) {
    self.node = node
    self.revocation = revocation
    self.onEnd = onEnd
  }

  deinit { onEnd?() }

  /// The database is to be removed: whoever does nothing with it now should give it back.
  public var isRevoked: Bool { revocation?() ?? false }
}

/// A change of which databases there are.
public enum DatabaseChange: Equatable, Sendable {
  case create(DatabaseName)
  case drop(DatabaseName)
  case fork(DatabaseName, to: DatabaseName)

  /// Those that it concerns.
  public var names: [DatabaseName] {
    switch self {
    case .create(let name), .drop(let name): [name]
    case .fork(let source, let name): [source, name]
    }
  }
}

extension DatabaseChange {
  /// One that a follower asks for.
  ///
  /// - Throws: `ShipProtocolError` for a name that no database has; the follower has looked at that.
  init(_ asked: ShipChange) throws {
    func name(_ text: String) throws -> DatabaseName {
      guard let name = DatabaseName(text) else {
        throw ShipProtocolError.malformed("a database cannot have that name")
      }
      return name
    }
    switch asked.act {
    case .create(let text): self = .create(try name(text))
    case .drop(let text): self = .drop(try name(text))
    case .fork(let source, let text): self = .fork(try name(source), to: try name(text))
    }
  }

  public var asked: ShipChange.Act {
    switch self {
    case .create(let name): .create(name.text)
    case .drop(let name): .drop(name.text)
    case .fork(let source, let name): .fork(source.text, to: name.text)
    }
  }
}

/// The link of a replica with many databases to the node above.
public struct LinkStatus: Equatable, Sendable {
  public var address: String
  public var isLinked: Bool
  /// Databases that are followed at this moment; the others rest.
  public var followed: Int
  public var contactMilliseconds: UInt64?
  public var lastError: String?

  public init(
    address: String, isLinked: Bool, followed: Int, contactMilliseconds: UInt64?,
    lastError: String?
  ) {
    self.address = address
    self.isLinked = isLinked
    self.followed = followed
    self.contactMilliseconds = contactMilliseconds
    self.lastError = lastError
  }
}

/// Makes and removes databases. Safe to use from any thread.
public protocol DatabaseAdministration: Sendable {
  var role: NodeRole { get }
  var counts: (databases: Int, open: Int) { get }
  /// The link above, on a replica.
  var link: LinkStatus? { get }

  /// - Parameter completion: called once, on `loop`; without an error the change is durable.
  func perform(
    _ change: DatabaseChange, on loop: any EventLoop,
    completion: @escaping @Sendable (RequestError?) -> Void)
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

  public var defaultName: String { lease.node.databaseName }
  public var names: [String] { [lease.node.databaseName] }
  public var administration: (any DatabaseAdministration)? { nil }
  public var idleMilliseconds: Int? { nil }
  public func closeReaders() { lease.node.readers.close() }
}

extension DatabaseName {
  /// A name that a client has given.
  public static func named(_ text: String) throws(RequestError) -> DatabaseName {
    guard let name = DatabaseName(text) else {
      throw RequestError(.badRequest, "the name of a database has \(rule)")
    }
    return name
  }
}
