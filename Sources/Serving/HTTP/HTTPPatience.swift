// How long a connection waits: for the rest of a request, and for another request. And the handler
// that sees bytes before they become parts of requests, so that half a header is noticed, too.

import NIOCore
import Store

/// One limit of time, set again and again. It is used on its loop alone.
final class HTTPPatience {
  enum Wait { case request, rest }

  private let loop: any EventLoop
  private var wait: Wait?
  private var deadline: UInt64 = 0
  private var onLate: (() -> Void)?
  private var alarm: (at: UInt64, task: Scheduled<Void>)?

  init(loop: any EventLoop) { self.loop = loop }

  /// Waits; a wait for the same thing goes on as it was.
  func wait(for wait: Wait, milliseconds: Int, onLate: @escaping () -> Void) {
    guard self.wait != wait else { return }
    self.wait = wait
    self.onLate = onLate
    deadline = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
    schedule()
  }

  func cancel() {
    wait = nil
    onLate = nil
  }

  /// There is one alarm. One that comes too early is set again: most waits end long before.
  private func schedule() {
    if let alarm {
      guard alarm.at > deadline else { return }
      alarm.task.cancel()
    }
    let now = monotonicNanoseconds()
    let bound = NIOLoopBound(self, eventLoop: loop)
    let task = loop.scheduleTask(in: .nanoseconds(Int64(deadline - min(now, deadline)))) {
      bound.value.ring()
    }
    alarm = (deadline, task)
  }

  private func ring() {
    alarm = nil
    guard wait != nil else { return }
    guard monotonicNanoseconds() >= deadline else { return schedule() }
    let late = onLate
    cancel()
    late?()
  }
}

/// Says when bytes arrive.
final class HTTPInputWatch: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let onBytes: () -> Void

  init(onBytes: @escaping () -> Void) { self.onBytes = onBytes }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    onBytes()
    context.fireChannelRead(data)
  }
}
