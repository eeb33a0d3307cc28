// The open connections of a line server: how many there are, and how all of them are ended.

import NIOCore
import Synchronization

/// Keeps count of connections. Safe to use from any thread.
final class LineConnections: Sendable {
  private let sessions = Mutex<[ObjectIdentifier: NIOLoopBound<LineSession>]>([:])
  private let connectionsMax: Int
  private let total: ConnectionTotal

  /// - Parameter total: connections of other listeners count, too.
  init(connectionsMax: Int, total: ConnectionTotal) {
    self.connectionsMax = connectionsMax
    self.total = total
  }

  var count: Int { sessions.withLock { $0.count } }

  /// - Returns: false when there are too many; the connection must then be closed.
  func add(_ session: LineSession) -> Bool {
    let bound = NIOLoopBound(session, eventLoop: session.loop)
    sessions.withLock { $0[ObjectIdentifier(session)] = bound }
    return total.add() <= connectionsMax
  }

  func remove(_ session: LineSession) {
    let found = sessions.withLock { $0.removeValue(forKey: ObjectIdentifier(session)) }
    if found != nil { total.remove() }
  }

  /// Lets each connection answer what it works on, then closes it.
  func drain() {
    for bound in all { bound.eventLoop.execute { bound.value.drain() } }
  }

  /// Lets those who have asked for nothing since a moment give their databases back.
  func releaseUnused(since nanoseconds: UInt64) {
    for bound in all {
      bound.eventLoop.execute { bound.value.releaseIfUnused(since: nanoseconds) }
    }
  }

  func abort() {
    for bound in all { bound.eventLoop.execute { bound.value.abort() } }
  }

  private var all: [NIOLoopBound<LineSession>] { sessions.withLock { Array($0.values) } }
}
