// The wire between regions: it passes on packets, later, not all of them, or in one direction only.
// What TCP does about that, to retransmit, to wait and to give up, is the kernel's own.

import Glibc
import Synchronization

/// Joins regions to each other, each pair and direction with conditions of its own. Safe to use
/// from any thread.
public final class Wire: Sendable {
  /// What happens to packets from one region to another.
  public struct Condition: Equatable, Sendable {
    public var delayMilliseconds: Double
    /// Up to so much is added to the delay; packets stay in their order.
    public var jitterMilliseconds: Double
    /// The share of packets that are lost, from 0 to 1.
    public var loss: Double
    /// All are lost, also those on the way.
    public var isCut = false

    public init(
      delayMilliseconds: Double = 0, jitterMilliseconds: Double = 0, loss: Double = 0
    ) {
      self.delayMilliseconds = delayMilliseconds
      self.jitterMilliseconds = jitterMilliseconds
      self.loss = loss
    }
  }

  /// Packets so far.
  public struct Counts: Equatable, Sendable {
    public var passed = 0
    public var lost = 0
  }

  struct State {
    /// From each region to each.
    var conditions: [[Condition]]
    var counts = Counts()
    var isStopped = false
  }

  private let state: WireState
  private let wake: Int32
  private let thread: BackgroundThread

  /// - Parameter seed: which packets are lost, and how the delay varies.
  init(joining regions: [Region], seed: UInt64) throws {
    let row = [Condition](repeating: Condition(), count: regions.count)
    let shared = WireState(State(conditions: [[Condition]](repeating: row, count: regions.count)))
    state = shared
    let ends = try Socket.pipe()
    for end in [ends.read, ends.write] { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    wake = ends.write
    let reader = ends.read
    thread = BackgroundThread {
      WireLoop(regions: regions, wake: reader, state: shared, seed: seed).run()
    }
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

  public var counts: Counts { state.lock.withLock { $0.counts } }

  /// The same for every pair and direction.
  public func setAll(_ condition: Condition) {
    change { state in
      for from in state.conditions.indices {
        for to in state.conditions.indices { state.conditions[from][to] = condition }
      }
    }
  }

  /// Loses all packets from one region to another, and leaves the other direction as it is.
  public func cut(from: Region, to: Region) { set(from, to, isCut: true) }

  /// Loses all packets between two regions.
  public func cut(_ one: Region, _ other: Region) {
    cut(from: one, to: other)
    cut(from: other, to: one)
  }

  /// Ends what `cut` began; delay and loss stay.
  public func heal() {
    change { state in
      for from in state.conditions.indices {
        for to in state.conditions.indices { state.conditions[from][to].isCut = false }
      }
    }
  }

  private func set(_ from: Region, _ to: Region, isCut: Bool) {
    change { $0.conditions[from.number][to.number].isCut = isCut }
  }
}

/// What the wire and its thread share.
final class WireState: Sendable {
  let lock: Mutex<Wire.State>
  init(_ state: Wire.State) { lock = Mutex(state) }
}
