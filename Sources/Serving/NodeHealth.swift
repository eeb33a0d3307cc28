// Whether a node may answer reads from its file. What is known to be damaged is never served.

import Synchronization

/// The damage that a node knows of. Safe to use from any thread.
public final class NodeHealth: Sendable {
  private let isDamaged = Atomic<Bool>(false)
  private let message = Mutex<String?>(nil)

  public init() {}

  /// What is damaged, and what to do; nil when nothing is.
  public var damage: String? {
    guard isDamaged.load(ordering: .relaxed) else { return nil }
    return message.withLock { $0 }
  }

  public func set(_ damage: String?) {
    message.withLock { $0 = damage }
    isDamaged.store(damage != nil, ordering: .relaxed)
  }
}
