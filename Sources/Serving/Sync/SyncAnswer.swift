// Sends pages of one snapshot as fast as a client takes them, and no slower than a bound: a snapshot
// keeps the WAL.

import NIOCore
import NIOHTTP1
import Synchronization

/// An answer that is written in pieces. On the call's loop.
final class SyncAnswer {
  private let call: HTTPCall
  private let pages: SyncPages
  private let type: String
  private var isOver = false
  private var late: Scheduled<Void>?

  /// Answers at a time in this process: each has a thread and a snapshot.
  private static let countMax = 8
  private static let count = Mutex(0)
  /// A client that takes nothing for so long is cut off.
  private static let patience = TimeAmount.seconds(10)

  static func send(_ pages: SyncPages, as type: String, to call: HTTPCall) {
    let isFree = count.withLock { count in
      guard count < countMax else { return false }
      count += 1
      return true
    }
    guard isFree else {
      pages.close()
      return SyncRoutes.refuse(
        call, .serviceUnavailable, "too many copies are being read: try again")
    }
    SyncAnswer(pages, type, call).step()
  }

  private init(_ pages: SyncPages, _ type: String, _ call: HTTPCall) {
    self.call = call
    self.pages = pages
    self.type = type
    call.onGone = { self.close() }
  }

  private func close() {
    guard !isOver else { return }
    isOver = true
    late?.cancel()
    pages.close()
    Self.count.withLock { $0 -= 1 }
  }

  private func step() {
    late?.cancel()
    guard !isOver else { return }
    let held = NIOLoopBound(self, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = pages.read { result in loop.execute { held.value.take(result) } }
    if !isTaken { close() }
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
