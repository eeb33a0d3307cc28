// When a WAL is copied and begun anew, the same for both roles, and what is known of it for the
// status and the log.

import Logging
import Store
import Synchronization

/// The figures of the checkpoint policy.
public struct CheckpointLimits: Sendable {
  /// Frames from which on a checkpoint is worth its fsyncs.
  public let framesMin: UInt32
  /// Frames above which commits wait for the end of a checkpoint, and beyond which the -wal file is
  /// cut when it begins anew.
  public let framesMax: UInt32

  /// A checkpoint that a reader stood in the way of is tried again after this.
  public static let retryNanoseconds: UInt64 = 100_000_000
  /// How long commits wait for readers at most, and how often at most.
  public static let waitMillisecondsMax = 30
  public static let waitIntervalNanoseconds: UInt64 = 1_000_000_000
  /// A WAL that readers pin for so long is worth a line in the log.
  public static let warningNanoseconds: UInt64 = 10_000_000_000

  public init(framesMin: UInt32) {
    self.framesMin = framesMin
    framesMax = UInt32(clamping: UInt64(framesMin) * 4)
  }
}

/// Keeps account of a node's checkpoints. Safe to use from any thread.
public final class CheckpointRecord: Sendable {
  private struct State {
    var count: UInt64 = 0
    var restarts: UInt64 = 0
    var lastNanoseconds: UInt64?
    var lastError: String?
    var pinnedSinceNanoseconds: UInt64?
    var hasWarned = false
    /// When commits last waited for readers.
    var lastWaitNanoseconds: UInt64?
  }

  public let limits: CheckpointLimits
  private let logger: Logger
  private let state = Mutex(State())

  public init(limits: CheckpointLimits, logger: Logger) {
    self.limits = limits
    self.logger = logger
  }

  // MARK: What happened

  /// A checkpoint came to its end, whether or not it could copy everything.
  public func noteRun() {
    state.withLock { state in
      state.count += 1
      state.lastNanoseconds = monotonicNanoseconds()
      state.lastError = nil
    }
  }

  public func noteFailure(_ error: any Error) {
    state.withLock { state in
      state.lastNanoseconds = monotonicNanoseconds()
      state.lastError = "\(error)"
    }
    logger.error("a checkpoint failed", metadata: ["error": "\(error)"])
  }

  /// The WAL began anew.
  public func noteRestart() {
    state.withLock { $0.restarts += 1 }
    notePin(false)
  }

  /// Whether readers keep a WAL that is too long from beginning anew.
  public func notePin(_ isPinned: Bool) {
    let now = monotonicNanoseconds()
    let told: (warns: Bool, nanoseconds: UInt64)? = state.withLock { state in
      guard isPinned else {
        defer { (state.pinnedSinceNanoseconds, state.hasWarned) = (nil, false) }
        guard state.hasWarned, let since = state.pinnedSinceNanoseconds else { return nil }
        return (false, now - min(now, since))
      }
      let since = state.pinnedSinceNanoseconds ?? now
      state.pinnedSinceNanoseconds = since
      guard !state.hasWarned, now - min(now, since) > CheckpointLimits.warningNanoseconds else {
        return nil
      }
      state.hasWarned = true
      return (true, now - since)
    }
    guard let told else { return }
    let seconds: Logger.MetadataValue = "\(told.nanoseconds / 1_000_000_000)"
    if told.warns {
      logger.warning(
        "a reader keeps the WAL from beginning anew: it grows until its transaction ends",
        metadata: ["seconds": seconds])
    } else {
      logger.notice("no reader keeps the WAL any more", metadata: ["seconds": seconds])
    }
  }

  // MARK: Decisions

  /// Whether the last checkpoint was so long ago that one which did not help may be tried again.
  public var mayRetry: Bool {
    let last = state.withLock { $0.lastNanoseconds } ?? 0
    return monotonicNanoseconds() - last >= CheckpointLimits.retryNanoseconds
  }

  /// How long commits may wait for readers now; 0 when they did so a short while ago.
  public func takeWait() -> Int {
    let now = monotonicNanoseconds()
    return state.withLock { state in
      if let last = state.lastWaitNanoseconds,
        now - min(now, last) < CheckpointLimits.waitIntervalNanoseconds
      {
        return 0
      }
      state.lastWaitNanoseconds = now
      return CheckpointLimits.waitMillisecondsMax
    }
  }

  // MARK: Status

  /// What the status says of it.
  public var status: NodeStatus.Checkpoints {
    let now = monotonicNanoseconds()
    let state = state.withLock { $0 }
    func milliseconds(since then: UInt64) -> UInt64 { (now - min(now, then)) / 1_000_000 }
    var status = NodeStatus.Checkpoints()
    status.count = state.count
    status.restarts = state.restarts
    status.lastError = state.lastError
    status.limitFrames = UInt64(limits.framesMax)
    status.lastMillisecondsAgo = state.lastNanoseconds.map(milliseconds(since:))
    status.pinnedMilliseconds = state.pinnedSinceNanoseconds.map(milliseconds(since:))
    return status
  }
}
