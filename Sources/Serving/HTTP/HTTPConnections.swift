// The open connections of an HTTP listener: how many there are, and how all of them are ended.

import NIOCore
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
protocol HTTPPeer: AnyObject {
  var loop: any EventLoop { get }
  /// Answers what is being worked on, and closes.
  func drain()
  /// Closes.
  func abort()
  /// Gives its database back if nobody has used it since a moment of the monotonic clock.
  func releaseIfUnused(since nanoseconds: UInt64)
}

extension HTTPPeer {
  /// One that has a database only while it answers a request.
  func releaseIfUnused(since nanoseconds: UInt64) {}
}

/// Keeps count of connections. Safe to use from any thread.
final class HTTPConnections: Sendable {
  private let peers = Mutex<[ObjectIdentifier: NIOLoopBound<any HTTPPeer>]>([:])
  private let total: ConnectionTotal

  init(total: ConnectionTotal) { self.total = total }

  var count: Int { peers.withLock { $0.count } }

  /// - Returns: how many connections the node has, this one included.
  func add(_ peer: any HTTPPeer) -> Int {
    let bound = NIOLoopBound(peer, eventLoop: peer.loop)
    peers.withLock { $0[ObjectIdentifier(peer)] = bound }
    return total.add()
  }

  func remove(_ peer: any HTTPPeer) {
    let found = peers.withLock { $0.removeValue(forKey: ObjectIdentifier(peer)) }
    if found != nil { total.remove() }
  }

  func drain() {
    for bound in all { bound.eventLoop.execute { bound.value.drain() } }
  }

  func abort() {
    for bound in all { bound.eventLoop.execute { bound.value.abort() } }
  }

  /// Lets those who have asked for nothing since a moment give their databases back.
  func releaseUnused(since nanoseconds: UInt64) {
    for bound in all {
      bound.eventLoop.execute { bound.value.releaseIfUnused(since: nanoseconds) }
    }
  }

  private var all: [NIOLoopBound<any HTTPPeer>] { peers.withLock { Array($0.values) } }
}
