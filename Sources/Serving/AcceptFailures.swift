// What a listening socket does when connections cannot be accepted, as without file descriptors. The
// ones that wait stay where they are, and the socket goes on being readable: to try again at once
// would take a whole processor, and fill the log.

import Logging
import NIOCore

/// Lets a server go on after failures of `accept`, a while later. It belongs to one event loop.
final class AcceptFailures: ChannelDuplexHandler {
  typealias InboundIn = Channel
  typealias OutboundIn = Never

  private let logger: Logger
  private var isPaused = false
  private var failures = 0
  private var isSilent = false

  private static let pause = TimeAmount.milliseconds(100)
  private static let silence = TimeAmount.seconds(10)

  init(logger: Logger) { self.logger = logger }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    failures += 1
    report(context, "\(error)")
    guard !isPaused else { return }
    isPaused = true
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(in: Self.pause) {
      let (handler, context) = bound.value
      handler.isPaused = false
      context.read()
    }
  }

  /// Asks for the next connection, unless that has just failed.
  func read(context: ChannelHandlerContext) {
    if !isPaused { context.read() }
  }

  /// Once at first, and then from time to time.
  private func report(_ context: ChannelHandlerContext, _ reason: String) {
    guard !isSilent else { return }
    logger.warning(
      "connections cannot be accepted",
      metadata: ["reason": "\(reason)", "failures": "\(failures)"])
    isSilent = true
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(in: Self.silence) { bound.value.isSilent = false }
  }
}
