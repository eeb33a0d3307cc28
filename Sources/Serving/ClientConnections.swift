// The open connections of a listener, whatever they speak: how many there are, who gives its database
// back, and how all of them are ended.

import NIOCore
import Store
import Synchronization

/// The connections of all listeners of a node, which share one limit. Safe to use from any thread.
public final class ConnectionTotal: Sendable {
  private let total = Atomic<Int>(0)

  public init() {}

  public var count: Int { total.load(ordering: .relaxed) }

  /// Counts one more.
  ///
  /// - Returns: how many there are then.
  func add() -> Int { total.add(1, ordering: .relaxed).newValue }

  func remove() { total.subtract(1, ordering: .relaxed) }
}

/// What serves one connection. It is used on its loop alone.
protocol ClientConnection: AnyObject {
  var loop: any EventLoop { get }
  /// Answers what is being worked on, and closes.
  func drain()
  /// Closes.
  func abort()
  /// Gives its database back if nobody has used it since a moment of the monotonic clock.
  func releaseIfUnused(since nanoseconds: UInt64)
}

/// Keeps count of connections. Safe to use from any thread.
final class ClientConnections: Sendable {
  private let connections = Mutex<[ObjectIdentifier: NIOLoopBound<any ClientConnection>]>([:])
  private let sweep = Mutex<RepeatedTask?>(nil)
  private let total: ConnectionTotal
  private let limits: ServingLimits

  private static let pollMilliseconds: Int64 = 10

  /// - Parameter total: connections of other listeners count, too.
  init(limits: ServingLimits, total: ConnectionTotal) {
    self.limits = limits
    self.total = total
  }

  var count: Int { connections.withLock { $0.count } }

  /// - Returns: false when the node has too many; the connection must then be closed.
  func add(_ connection: any ClientConnection) -> Bool {
    let bound = NIOLoopBound(connection, eventLoop: connection.loop)
    connections.withLock { $0[ObjectIdentifier(connection)] = bound }
    return total.add() <= limits.connectionsMax
  }

  func remove(_ connection: any ClientConnection) {
    let found = connections.withLock { $0.removeValue(forKey: ObjectIdentifier(connection)) }
    if found != nil { total.remove() }
  }

  /// Lets those who have asked for nothing for long enough give their databases back, now and then;
  /// where nothing is closed for being idle, nobody is asked.
  func sweep(for directory: any DatabaseDirectory, on loop: any EventLoop) {
    guard let milliseconds = directory.idleMilliseconds else { return }
    let pause = TimeAmount.milliseconds(Int64(max(10, min(500, milliseconds / 4))))
    let task = loop.scheduleRepeatedTask(initialDelay: pause, delay: pause) { [weak self] _ in
      let now = monotonicNanoseconds()
      let since = now - min(now, UInt64(milliseconds) * 1_000_000)
      self?.forEach { $0.releaseIfUnused(since: since) }
    }
    sweep.withLock { $0 = task }
  }

  /// Lets the connections answer what they work on, and closes them.
  func close() async {
    sweep.withLock { $0 }?.cancel()
    forEach { $0.drain() }
    let rounds = Int64(limits.drainMilliseconds) / Self.pollMilliseconds
    for _ in 0..<max(1, rounds) where count > 0 {
      try? await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
    }
    forEach { $0.abort() }
  }

  /// Each on its own loop.
  private func forEach(_ body: @escaping @Sendable (any ClientConnection) -> Void) {
    for bound in connections.withLock({ Array($0.values) }) {
      bound.eventLoop.execute { body(bound.value) }
    }
  }
}
