// Lets listeners ask for a node's status although they are made before the node is complete.

import Store
import Synchronization

/// Where listeners get the status from. Safe to use from any thread.
public final class StatusSource: Sendable {
  /// A bare function in a `Mutex` would be wrapped once more with each use.
  private struct Maker: Sendable { var make: @Sendable () -> NodeStatus? }
  private let maker = Mutex<Maker?>(nil)
  private let role: NodeRole
  private let tracker: PositionTracker

  public init(role: NodeRole, tracker: PositionTracker) {
    self.role = role
    self.tracker = tracker
  }

  /// - Parameter make: gives nil while the node is not complete.
  public func set(_ make: @escaping @Sendable () -> NodeStatus?) {
    maker.withLock { $0 = Maker(make: make) }
  }

  /// The status now; while the node starts, one that says little more than where it stands.
  public func make() -> NodeStatus {
    maker.withLock { $0 }?.make()
      ?? NodeStatus(
        role: role, version: SoftwareVersion.current, name: "", position: tracker.position,
        listen: "starting", sqliteVersion: SQLiteLibrary.version)
  }
}

extension Optional where Wrapped: Sendable {
  /// `map` with an asynchronous step.
  public func asyncMap<T>(_ transform: (Wrapped) async throws -> T) async rethrows -> T? {
    guard let self else { return nil }
    return try await transform(self)
  }
}
