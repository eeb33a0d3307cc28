// Where tests run that block: on sockets, on programs, on time.
//
// Swift runs all asynchronous work of a process in as many threads as there are processors. Tests
// that block these threads would keep what they wait for from running, and with two processors two
// such tests are enough. So they run in threads of their own, and few of them at a time.

import EdgeTesting
import Glibc
import Synchronization
import Testing

/// Runs tests one after the other, each in threads of its own. Tests of different lanes run side by
/// side.
public final class Lane: TestTrait, SuiteTrait, TestScoping {
  /// For tests that run nodes as programs.
  public static let programs = Lane()
  /// For all others that block.
  public static let services = Lane()

  private struct Line {
    var isTaken = false
    var waiters: [CheckedContinuation<Void, Never>] = []
  }

  private let line = Mutex(Line())

  /// Each test of a suite is a user of the lane, not the suite as a whole.
  public let isRecursive = true

  public func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    await enter()
    // What was printed says where a run is, should it never end.
    fflush(nil)
    defer { leave() }
    try await withTaskExecutorPreference(ThreadExecutor()) { try await function() }
  }

  private func enter() async {
    await withCheckedContinuation { continuation in
      let isFree = line.withLock { line in
        guard line.isTaken else {
          line.isTaken = true
          return true
        }
        line.waiters.append(continuation)
        return false
      }
      if isFree { continuation.resume() }
    }
  }

  private func leave() {
    let next = line.withLock { line -> CheckedContinuation<Void, Never>? in
      guard line.waiters.isEmpty else { return line.waiters.removeFirst() }
      line.isTaken = false
      return nil
    }
    next?.resume()
  }
}

extension Trait where Self == Lane {
  /// Runs one at a time, beside nothing else that runs nodes as programs.
  public static var programs: Lane { .programs }
  /// Runs one at a time, beside no other test that blocks within this process.
  public static var services: Lane { .services }
}

/// Runs each piece of a task in a thread of its own.
private final class ThreadExecutor: TaskExecutor {
  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    BackgroundThread.detach { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
