// Sends pages of one snapshot as fast as a client takes them, and no slower than a bound: a snapshot
// keeps the WAL.

import DequeModule
import NIOCore
import NIOHTTP1
import Synchronization

/// An answer that is written in pieces. On the call's loop.
final class SyncAnswer {
  private let call: HTTPCall
  private let type: String
  private let makePages: () -> SyncPages
  private var pages: SyncPages?
  private var place: Place?
  private var isOver = false
  private var late: Scheduled<Void>?

  /// Answers at a time in this process: each has a thread and a snapshot.
  private static let countMax = 8
  private static let turns = Mutex(Turns())
  /// A client that takes nothing for so long is cut off.
  private static let patience = TimeAmount.seconds(10)

  private enum Place {
    case taken
    case waiting(Int)
  }

  /// Who has a turn, and who waits for one, in the order in which they came.
  private struct Turns {
    var taken = 0
    var last = 0
    var waiting: Deque<(number: Int, wake: @Sendable () -> Void)> = []
  }

  /// - Parameters:
  ///   - waits: for its turn, instead of being refused when there are too many.
  ///   - pages: is called when it is its turn.
  static func send(
    as type: String, to call: HTTPCall, waits: Bool = false, _ pages: @escaping () -> SyncPages
  ) {
    SyncAnswer(pages, type, call).begin(waits: waits)
  }

  private init(_ pages: @escaping () -> SyncPages, _ type: String, _ call: HTTPCall) {
    self.call = call
    self.type = type
    makePages = pages
  }

  private func begin(waits: Bool) {
    let held = NIOLoopBound(self, eventLoop: call.loop)
    let loop = call.loop
    place = Self.turns.withLock { turns in
      if turns.taken < Self.countMax {
        turns.taken += 1
        return .taken
      }
      guard waits else { return nil }
      turns.last += 1
      turns.waiting.append((turns.last, { loop.execute { held.value.begin() } }))
      return .waiting(turns.last)
    }
    switch place {
    case nil:
      SyncRoutes.refuse(call, .serviceUnavailable, "too many copies are being read: try again")
    case .taken: begin()
    case .waiting: call.onGone = { self.close() }
    }
  }

  /// It is its turn.
  private func begin() {
    place = .taken
    call.onGone = { self.close() }
    guard !isOver else { return endTurn() }
    pages = makePages()
    step()
  }

  private func close() {
    guard !isOver else { return }
    isOver = true
    late?.cancel()
    pages?.close()
    endTurn()
  }

  /// Hands the turn to who waits for one.
  private func endTurn() {
    let place = place
    self.place = nil
    let wake: (@Sendable () -> Void)? = Self.turns.withLock { turns in
      switch place {
      case nil: return nil
      case .waiting(let number):
        // Whose turn it has become meanwhile ends it as soon as it is told.
        turns.waiting.removeAll { $0.number == number }
        return nil
      case .taken:
        if let next = turns.waiting.popFirst() { return next.wake }
        turns.taken -= 1
        return nil
      }
    }
    wake?()
  }

  private func step() {
    late?.cancel()
    guard !isOver else { return }
    let held = NIOLoopBound(self, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = pages?.read { result in loop.execute { held.value.take(result) } }
    if isTaken != true { close() }
  }

  private func take(_ result: Result<ByteBuffer?, any Error>) {
    guard !isOver else { return }
    switch result {
    case .success(let bytes?):
      call.begin(.ok, type: type)
      guard !call.isOver else { return close() }
      call.write(bytes)
      wait()
    case .success(nil):
      if !call.hasBegun { call.begin(.ok, type: type) }
      close()
      call.end()
    case .failure(let error):
      close()
      if call.hasBegun { call.abort() } else { SyncRoutes.fail(call, error) }
    }
  }

  private func wait() {
    let held = NIOLoopBound(self, eventLoop: call.loop)
    late = call.loop.scheduleTask(in: Self.patience) {
      guard !held.value.isOver else { return }
      held.value.close()
      held.value.call.abort()
    }
    call.whenWritable { self.step() }
  }
}
