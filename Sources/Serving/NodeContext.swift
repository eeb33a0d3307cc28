// What the connections to a node share, whatever protocol they speak and whichever role the node
// has.

import Logging
import NIOCore
import Store
import WALShip

/// What a node is in its cluster.
public enum NodeRole: String, Sendable {
  case primary, replica
}

/// The node as its clients' sessions see it. Safe to use from any thread.
public final class NodeContext: Sendable {
  public let role: NodeRole
  public let databasePath: String
  /// The name that `.use` and `db` know the database by.
  public let databaseName: String
  public let tracker: PositionTracker
  public let logWatch: LogWatch
  /// The way to the writer.
  public let primary: any PrimaryAccess
  public let limits: ServingLimits
  public let status: @Sendable () -> NodeStatus
  /// Where copies of the database are read from; nil while the node still looks at its pages.
  public let pages: @Sendable () -> PageSource?
  /// The age of the last contact with the primary: 0 on a primary, nil before the first contact.
  public let contactMilliseconds: @Sendable () -> UInt64?
  /// The check of all pages; nil where there is none.
  public let scrubber: Scrubber?
  public let logger: Logger
  public let readers: NodeReaders
  public let gate: TokenGate

  public static let databaseNameDefault = "default"

  public init(
    role: NodeRole, databasePath: String, databaseName: String = NodeContext.databaseNameDefault,
    tracker: PositionTracker, logWatch: LogWatch, primary: any PrimaryAccess,
    limits: ServingLimits = ServingLimits(), health: NodeHealth = NodeHealth(),
    scrubber: Scrubber? = nil, status: @escaping @Sendable () -> NodeStatus,
    pages: @escaping @Sendable () -> PageSource?,
    contactMilliseconds: @escaping @Sendable () -> UInt64?, logger: Logger
  ) {
    self.role = role
    self.databasePath = databasePath
    self.databaseName = databaseName
    self.tracker = tracker
    self.logWatch = logWatch
    self.primary = primary
    self.limits = limits
    self.status = status
    self.pages = pages
    self.contactMilliseconds = contactMilliseconds
    self.scrubber = scrubber
    self.logger = logger
    readers = NodeReaders(
      source: ReadSource(
        databasePath: databasePath, tracker: tracker, logWatch: logWatch, limits: limits))
    gate = TokenGate(
      role: role, tracker: tracker, limits: limits, health: health,
      contactMilliseconds: contactMilliseconds)
  }
}
