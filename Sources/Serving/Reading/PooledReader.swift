// A thread with a read-only connection of its own, for reads that an event loop must not wait for.

import NIOCore
import Store
import Synchronization
import WALShip

/// One reader of the pool. Whoever checked it out uses it alone.
public final class PooledReader: Sendable {
  private let thread = DatabaseThread()
  private let slot: ConnectionSlot
  private let interrupter = Mutex<Interrupter?>(nil)
  /// Jobs are counted as they are submitted; those up to the second number are to stop, also when
  /// they have not begun.
  private let submitted = Atomic<UInt64>(0)
  private let cancelled = Atomic<UInt64>(0)
  /// What a job may take beyond its time before it is interrupted from outside: single instructions
  /// can be long.
  private static let graceMilliseconds = 20

  init(source: ReadSource) { slot = ConnectionSlot(source: source) }

  /// Runs a job on the reader's thread.
  ///
  /// - Parameters:
  ///   - milliseconds: after this its statements fail with `STATEMENT_TIMEOUT`.
  ///   - completion: called on `loop`.
  public func perform<T: Sendable>(
    on loop: any EventLoop, milliseconds: Int,
    _ body: @escaping @Sendable (ReadConnection) throws(RequestError) -> T,
    completion: @escaping @Sendable (Result<T, RequestError>) -> Void
  ) {
    let alarm = loop.scheduleTask(
      in: .milliseconds(Int64(milliseconds + Self.graceMilliseconds))
    ) { self.interrupt() }
    let deadline = monotonicNanoseconds() + UInt64(max(0, milliseconds)) * 1_000_000
    let number = submitted.add(1, ordering: .relaxed).newValue
    let accepted = thread.submit { [slot] in
      let result = Result { () throws(RequestError) -> T in
        let connection = try slot.connection()
        self.interrupter.withLock { $0 = connection.connection.interrupter }
        connection.budget.renew(checks: nil, deadlineNanoseconds: deadline)
        connection.budget.isCancelled = { self.cancelled.load(ordering: .relaxed) >= number }
        defer { connection.budget.isCancelled = nil }
        return try body(connection)
      }
      loop.execute {
        alarm.cancel()
        completion(result)
      }
    }
    guard !accepted else { return }
    alarm.cancel()
    loop.execute {
      completion(.failure(RequestError(.overloaded, ThreadStopped().description)))
    }
  }

  /// Stops what runs, and what was submitted and has not begun. Only for who has checked the reader
  /// out.
  public func interrupt() {
    cancelled.store(submitted.load(ordering: .relaxed), ordering: .relaxed)
    interrupter.withLock { $0?.interrupt() }
  }

  /// Closes the connection and ends the thread.
  func close() {
    interrupter.withLock { $0 = nil }
    thread.submit { [slot] in slot.close() }
    thread.stop()
  }
}

/// The connection of a reader, opened by its first job.
private final class ConnectionSlot: @unchecked Sendable {  // used by the jobs of one thread alone
  private let source: ReadSource
  private var opened: ReadConnection?
  private static let busyMilliseconds = 2000

  init(source: ReadSource) { self.source = source }

  func connection() throws(RequestError) -> ReadConnection {
    if let opened { return opened }
    let connection = try ReadConnection(source: source, busyMilliseconds: Self.busyMilliseconds)
    opened = connection
    return connection
  }

  func close() { opened = nil }
}
