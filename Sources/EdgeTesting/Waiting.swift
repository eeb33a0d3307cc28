// Waiting for what other processes do: a condition is looked at again and again until a deadline.
// This is the one place that sleeps.

import Glibc
import Synchronization

/// Why a test cannot go on.
public struct TestFailure: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// A moment by the monotonic clock.
public struct Deadline: Sendable {
  private let nanoseconds: UInt64

  public static func seconds(_ seconds: Double) -> Deadline {
    Deadline(nanoseconds: now() + UInt64(seconds * patience * 1_000_000_000))
  }

  /// EDGE_SQL_PATIENCE in the environment makes all deadlines so many times as long, for programs
  /// that a sanitizer slows down.
  public static let patience: Double = {
    guard let text = getenv("EDGE_SQL_PATIENCE"), let factor = Double(String(cString: text)) else {
      return 1
    }
    return min(max(factor, 1), 100)
  }()

  /// Exactly then, whatever the patience.
  fileprivate static func exactly(seconds: Double) -> Deadline {
    Deadline(nanoseconds: now() + UInt64(seconds * 1_000_000_000))
  }

  public var isOver: Bool { Self.now() >= nanoseconds }

  /// Milliseconds until then, for `poll`; 0 when it is over.
  public var millisecondsLeft: Int32 {
    let now = Self.now()
    return now >= nanoseconds ? 0 : Int32(clamping: (nanoseconds - now) / 1_000_000 + 1)
  }

  /// Monotonic time in nanoseconds.
  public static func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// Returns once `condition` holds.
///
/// - Throws: what `condition` throws, or a failure that says what was waited for.
public func eventually(
  _ what: @autoclosure () -> String, deadline: Deadline = .seconds(60),
  _ condition: () throws -> Bool
) throws {
  var pauseMicroseconds: UInt32 = 500
  while try !condition() {
    guard !deadline.isOver else { throw TestFailure("waited in vain: \(what())") }
    usleep(pauseMicroseconds)
    pauseMicroseconds = min(20_000, pauseMicroseconds * 2)
  }
}

/// Lets `seconds` go by, for what must not happen meanwhile.
public func elapse(seconds: Double) {
  let end = Deadline.exactly(seconds: seconds)
  try? eventually("time", deadline: .seconds(seconds + 60)) { end.isOver }
}

/// A thread of its own for work that blocks.
public final class BackgroundThread: Sendable {
  private final class Body: Sendable {
    let run: @Sendable () throws -> Void
    let outcome = Mutex<(any Error)?>(nil)
    init(_ run: @escaping @Sendable () throws -> Void) { self.run = run }
  }

  private let body: Body
  private let thread: pthread_t

  public init(_ run: @escaping @Sendable () throws -> Void) {
    let body = Body(run)
    self.body = body
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { pointer in
        guard let pointer else { return nil }
        let body = Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue()
        do { try body.run() } catch { body.outcome.withLock { $0 = error } }
        return nil
      }, Unmanaged.passRetained(body).toOpaque())
    precondition(code == 0, "no thread could be started")
    self.thread = thread
  }

  /// Runs `body` in a thread that nobody waits for.
  public static func detach(_ body: @escaping @Sendable () -> Void) {
    pthread_detach(BackgroundThread(body).thread)
  }

  /// Waits for the end; throws what the body threw. To be called once.
  public func join() throws {
    pthread_join(thread, nil)
    if let error = body.outcome.withLock({ $0 }) { throw error }
  }
}

/// A flag that threads share.
public final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  public init() {}
  public var isSet: Bool { value.load(ordering: .acquiring) }
  public func set() { value.store(true, ordering: .releasing) }
}

/// A value that one thread makes and another one takes.
public final class SharedValue<Value: Sendable>: Sendable {
  private let lock = Mutex<Value?>(nil)
  public init() {}
  public var value: Value? { lock.withLock { $0 } }
  public func set(_ value: Value) { lock.withLock { $0 = value } }
}
