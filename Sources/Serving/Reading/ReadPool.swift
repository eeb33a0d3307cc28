// Hands out readers with threads of their own, in the order in which they were asked for.

import DequeModule
import NIOCore
import Store
import Synchronization

/// The readers for slow and large reads, and for transactions that read.
public final class ReadPool: Sendable {
  public typealias CheckOut = @Sendable (Result<PooledReader, RequestError>) -> Void

  private struct Waiter {
    let loop: any EventLoop
    let since: UInt64
    let completion: CheckOut
  }

  private struct State {
    /// Those that were used last are at the end: their caches are warm.
    var idle: [(reader: PooledReader, since: UInt64)] = []
    var count = 0
    var waiters = Deque<Waiter>()
    var hasSweep = false
    var isClosed = false
  }

  private let source: ReadSource
  private let state = Mutex(State())
  private static let sweepSeconds: Int64 = 5

  public init(source: ReadSource) { self.source = source }

  /// How many readers there are, and how many wait for one.
  public var counts: (readers: Int, waiting: Int) {
    state.withLock { ($0.count, $0.waiters.count) }
  }

  /// Gives a reader to `completion`, which is called on `loop`: at once if there is one.
  public func checkOut(on loop: any EventLoop, completion: @escaping CheckOut) {
    loop.preconditionInEventLoop()
    let source = source
    let limits = source.limits
    let result: Result<PooledReader, RequestError>? = state.withLock { state in
      guard !state.isClosed else {
        return .failure(RequestError(.overloaded, ThreadStopped().description))
      }
      if let known = state.idle.popLast() { return .success(known.reader) }
      if state.count < limits.readersMax {
        state.count += 1
        return .success(PooledReader(source: source))
      }
      guard state.waiters.count < limits.readerWaitersMax else {
        return .failure(Self.overloaded)
      }
      state.waiters.append(
        Waiter(loop: loop, since: monotonicNanoseconds(), completion: completion))
      return nil
    }
    sweepLater(on: loop)
    if let result { completion(result) }
  }

  /// Takes a reader back. No statement or transaction of it may be open.
  public func checkIn(_ reader: PooledReader, on loop: any EventLoop) {
    let next: Waiter? = state.withLock { state in
      if let waiter = state.waiters.popFirst() { return waiter }
      if state.isClosed {
        state.count -= 1
        reader.close()
      } else {
        state.idle.append((reader, monotonicNanoseconds()))
      }
      return nil
    }
    guard let next else {
      sweepLater(on: loop)
      return
    }
    next.loop.execute { next.completion(.success(reader)) }
  }

  /// Closes the readers that have nothing to do, and the others as they come back.
  public func close() {
    let waiters: Deque<Waiter> = state.withLock { state in
      state.isClosed = true
      for known in state.idle { known.reader.close() }
      state.count -= state.idle.count
      state.idle = []
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters {
      waiter.loop.execute {
        waiter.completion(.failure(RequestError(.overloaded, ThreadStopped().description)))
      }
    }
  }

  private static let overloaded = RequestError(
    .overloaded, "all readers are busy, and too many requests wait for them")

  // MARK: Sweeping

  private func sweepLater(on loop: any EventLoop) {
    let isNeeded = state.withLock { state in
      guard !state.hasSweep, !state.isClosed else { return false }
      guard !state.idle.isEmpty || !state.waiters.isEmpty else { return false }
      state.hasSweep = true
      return true
    }
    guard isNeeded else { return }
    loop.scheduleTask(in: .seconds(Self.sweepSeconds)) { [weak self] in
      self?.sweep(on: loop)
    }
  }

  /// Closes readers without work, and sends those away who have waited too long for one.
  private func sweep(on loop: any EventLoop) {
    let now = monotonicNanoseconds()
    let limits = source.limits
    func age(_ since: UInt64) -> UInt64 { (now &- since) / 1_000_000 }
    let expired: [Waiter] = state.withLock { state in
      state.hasSweep = false
      while let oldest = state.idle.first, age(oldest.since) >= limits.readerIdleMilliseconds {
        state.idle.removeFirst()
        state.count -= 1
        oldest.reader.close()
      }
      var expired: [Waiter] = []
      while let oldest = state.waiters.first, age(oldest.since) >= limits.statementMilliseconds {
        expired.append(state.waiters.removeFirst())
      }
      return expired
    }
    for waiter in expired {
      waiter.loop.execute { waiter.completion(.failure(Self.overloaded)) }
    }
    sweepLater(on: loop)
  }
}
