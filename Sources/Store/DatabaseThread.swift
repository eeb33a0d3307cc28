// One thread of the operating system for one SQLite connection, with a queue of jobs. SQLite
// blocks, so it never runs on Swift's shared threads.

import Glibc
import Synchronization

/// A thread that runs jobs one after the other. It begins with the first job.
public final class DatabaseThread: @unchecked Sendable {  // the queue is used under `lock` alone
  public typealias Job = @Sendable () -> Void

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var jobs: [Job] = []
  private var isStopping = false
  private var isStarted = false
  /// A job is under way in a simulation.
  package private(set) var isRunning = false

  public init() {
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
  }

  /// With the lock in hand.
  private func start() {
    isStarted = true
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self).toOpaque()
    let code = pthread_create(
      &thread, nil,
      { pointer in
        guard let pointer else { return nil }
        Unmanaged<DatabaseThread>.fromOpaque(pointer).takeRetainedValue().main()
        return nil
      }, context)
    precondition(code == 0, "the system refuses another thread")
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  private func main() {
    // Nobody joins this thread: its stack goes with it.
    pthread_detach(pthread_self())
    while true {
      pthread_mutex_lock(lock)
      while jobs.isEmpty, !isStopping { pthread_cond_wait(wake, lock) }
      let batch = jobs
      jobs.removeAll(keepingCapacity: true)
      let ends = batch.isEmpty && isStopping
      pthread_mutex_unlock(lock)
      if ends { return }
      for job in batch { job() }
    }
  }

  /// Adds a job to the queue.
  ///
  /// - Returns: false when the thread has been stopped; the job will not run.
  @discardableResult
  public func submit(_ job: @escaping Job) -> Bool {
    pthread_mutex_lock(lock)
    guard !isStopping else {
      pthread_mutex_unlock(lock)
      return false
    }
    jobs.append(job)
    if let machine = Machine.substitute {
      machine.hasJobs(self)
    } else if !isStarted {
      start()
    }
    pthread_mutex_unlock(lock)
    // The thread that wakes finds the lock free.
    pthread_cond_signal(wake)
    return true
  }

  /// Whether `runJob` has something to run.
  package var hasJobs: Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return !jobs.isEmpty
  }

  /// Runs the next job where there is no thread: in a simulation.
  ///
  /// - Returns: false when there is none.
  package func runJob() -> Bool {
    pthread_mutex_lock(lock)
    let job = jobs.isEmpty ? nil : jobs.removeFirst()
    pthread_mutex_unlock(lock)
    guard let job else { return false }
    precondition(!isRunning, "a thread cannot wait for itself")
    isRunning = true
    defer { isRunning = false }
    job()
    return true
  }

  /// Lets the queued jobs run, then ends the thread.
  public func stop() {
    pthread_mutex_lock(lock)
    isStopping = true
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(lock)
  }

  /// Runs `body` on the thread and waits for it; for start and stop, never on an event loop.
  public func sync<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T {
    let done = ThreadGate()
    let slot = Mutex<Result<T, any Error>?>(nil)
    let accepted = submit {
      let result = Result { try body() }
      slot.withLock { $0 = result }
      done.open()
    }
    guard accepted else { throw ThreadStopped() }
    if Machine.substitute == nil {
      done.wait()
    } else {
      while slot.withLock({ $0 == nil }), runJob() {}
    }
    guard let result = slot.withLock({ $0 }) else { throw ThreadStopped() }
    return try result.get()
  }
}

/// The job came after the thread's end.
public struct ThreadStopped: Error, CustomStringConvertible {
  public init() {}
  public var description: String { "this node is stopping" }
}

/// Lets one thread wait for another.
final class ThreadGate: @unchecked Sendable {  // `isOpen` is used under `lock` alone
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var isOpen = false

  init() {
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(wake, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  func open() {
    pthread_mutex_lock(lock)
    isOpen = true
    pthread_cond_signal(wake)
    pthread_mutex_unlock(lock)
  }

  func wait() {
    pthread_mutex_lock(lock)
    while !isOpen { pthread_cond_wait(wake, lock) }
    pthread_mutex_unlock(lock)
  }

  /// - Returns: false when the time was over first.
  func wait(milliseconds: Int) -> Bool {
    if let machine = Machine.substitute {
      machine.wait(milliseconds: milliseconds) { isOpen }
      return isOpen
    }
    var deadline = timespec()
    clock_gettime(CLOCK_MONOTONIC, &deadline)
    let nanoseconds = deadline.tv_nsec + (milliseconds % 1000) * 1_000_000
    deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
    deadline.tv_nsec = nanoseconds % 1_000_000_000
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while !isOpen {
      if pthread_cond_timedwait(wake, lock, &deadline) == ETIMEDOUT { return isOpen }
    }
    return true
  }
}

extension DatabaseThread {
  /// Runs `body` on the thread and waits for it without blocking one of Swift's threads.
  public func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let accepted = submit { continuation.resume(with: Result { try body() }) }
      if !accepted { continuation.resume(throwing: ThreadStopped()) }
    }
  }
}
