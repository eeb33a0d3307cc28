// What `OnDemandDatabases` needs of a role: how it opens, closes, makes and removes one database.

import Store

/// An open database of a node that has many.
public protocol OpenDatabase: AnyObject, Sendable {
  var node: NodeContext { get }
  /// Serves those who follow it; nil where nobody can.
  var shipServer: ShipServer? { get }
  /// When it was last used by others than those who hold a lease, by the monotonic clock.
  var usedNanoseconds: UInt64 { get }
  /// Whether closing it cuts off nothing, be it a copy that a follower takes.
  var isAtRest: Bool { get }
  /// Lets those go who follow it, if closing it cuts off nothing of theirs: from then on they ask for
  /// it again.
  ///
  /// - Returns: false when it must stay open.
  func letFollowersGo() async -> Bool
  /// Closes it, once nobody uses it; afterwards another run may open it.
  func close() async
}

/// Works on the files of databases. For each database one call at a time.
public protocol DatabaseKeeper: Sendable {
  /// Whether there are files of this database, be it known or not.
  func exists(_ name: DatabaseName) -> Bool
  /// Opens a database, or makes an empty one: it is durable then.
  func open(_ name: DatabaseName) async throws -> any OpenDatabase
  /// Removes a database that is closed, durably.
  func drop(_ name: DatabaseName) async throws
  /// Makes a database from the present state of an open one, durably, and leaves it closed.
  func fork(_ source: any OpenDatabase, named: DatabaseName, to name: DatabaseName) async throws
  /// What a client is told when one of these fails; the log has the rest.
  func clientError(_ error: any Error) -> RequestError
}
