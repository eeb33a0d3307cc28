// A link that can be measured and broken: everything between a replica and its upstream goes
// through here.

import Glibc
import Synchronization

/// A TCP proxy on 127.0.0.1 with one thread. Safe to use from any thread.
public final class FaultProxy: Sendable {
  public enum Direction: Int, Sendable, CaseIterable {
    /// From the follower to its upstream.
    case up
    /// From the upstream to the follower.
    case down
  }

  struct State {
    var target: Int
    var bytes = [0, 0]
    var connections = 0
    var isPaused = [false, false]
    var refuses = false
    var delayNanoseconds: UInt64 = 0
    /// For each direction of each connection; nil: as fast as it goes.
    var bytesPerSecond: Int?
    /// The link is cut when so many bytes have gone through in all.
    var cutsAt: [Int?] = [nil, nil]
    /// A bit of this byte, counted over all connections, is inverted.
    var flipsAt: [Int?] = [nil, nil]
    var wantsCut = false
    var wantsSwallow = false
    var isStopped = false
    /// What was passed on in each direction, when it is kept.
    var recorded: [[UInt8]]?
  }

  public let port: Int
  private let state: StateBox
  private let wake: Int32
  private let thread: BackgroundThread

  public init(to target: Int) throws {
    let (listener, port) = try Socket.listen()
    self.port = port
    let ends = try Socket.pipe()
    for end in [ends.read, ends.write] { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    wake = ends.write
    let box = StateBox(State(target: target))
    state = box
    let reader = ends.read
    thread = BackgroundThread { ProxyLoop(listener: listener, wake: reader, state: box).run() }
  }

  deinit {
    change { $0.isStopped = true }
    try? thread.join()
    close(wake)
  }

  private func change(_ body: (inout State) -> Void) {
    state.lock.withLock { body(&$0) }
    var byte: UInt8 = 0
    _ = write(wake, &byte, 1)
  }

  // MARK: Measuring

  /// Bytes that were passed on in a direction, over all connections.
  public func bytes(_ direction: Direction) -> Int {
    state.lock.withLock { $0.bytes[direction.rawValue] }
  }

  /// Keeps what is passed on from now on.
  public func record() { state.lock.withLock { $0.recorded = [[], []] } }

  /// What was passed on in a direction since `record`, over all connections.
  public func recorded(_ direction: Direction) -> [UInt8] {
    state.lock.withLock { $0.recorded?[direction.rawValue] ?? [] }
  }

  public var connections: Int { state.lock.withLock { $0.connections } }

  // MARK: Breaking

  /// Closes all connections; new ones are accepted.
  public func cut() { change { $0.wantsCut = true } }

  /// Closes all connections once so many more bytes have been passed on.
  public func cut(after count: Int, _ direction: Direction) {
    change { $0.cutsAt[direction.rawValue] = $0.bytes[direction.rawValue] + count }
  }

  /// Inverts one bit of the byte that comes after so many more.
  public func flipBit(after count: Int, _ direction: Direction) {
    change { $0.flipsAt[direction.rawValue] = $0.bytes[direction.rawValue] + count }
  }

  /// Whether the bit still waits to be inverted.
  public func flipIsPending(_ direction: Direction) -> Bool {
    state.lock.withLock { $0.flipsAt[direction.rawValue] != nil }
  }

  /// Passes nothing on in either direction, without closing anything.
  public func pause() { change { $0.isPaused = [true, true] } }
  public func pause(_ direction: Direction) { change { $0.isPaused[direction.rawValue] = true } }
  public func resume() { change { $0.isPaused = [false, false] } }

  /// The present connections stay open, and whatever is sent on them is lost; new ones work.
  public func swallow() { change { $0.wantsSwallow = true } }

  /// Closes all connections and takes no new ones, until `heal`.
  public func partition() {
    change { state in
      state.refuses = true
      state.wantsCut = true
    }
  }

  public func heal() {
    change { state in
      state.refuses = false
      state.isPaused = [false, false]
      state.delayNanoseconds = 0
      state.bytesPerSecond = nil
    }
  }

  /// Each piece is passed on so much later.
  public func delay(milliseconds: Int) {
    change { $0.delayNanoseconds = UInt64(milliseconds) * 1_000_000 }
  }

  /// Passes on no more than so many bytes a second in each direction.
  public func throttle(bytesPerSecond: Int) { change { $0.bytesPerSecond = bytesPerSecond } }
}

/// The state that the proxy and its thread share.
final class StateBox: Sendable {
  let lock: Mutex<FaultProxy.State>
  init(_ state: FaultProxy.State) { lock = Mutex(state) }
}
