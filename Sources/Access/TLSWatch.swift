// Stands behind the TLS of one connection: ends handshakes that take too long, and says in words
// why one failed.

import Logging
import NIOCore
import NIOSSL
import NIOTLS
import Serving

/// The handler that brings the one for TLS with it.
final class TLSWatch: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private static let handshakeSecondsMax: Int64 = 10

  /// Where failures are told; nil when the handler behind does that.
  private let logger: Logger?
  private let makeHandler: () throws -> NIOSSLHandler
  private var handler: NIOSSLHandler?
  private var alarm: Scheduled<Void>?
  private var isEstablished = false

  init(logger: Logger?, _ makeHandler: @escaping () throws -> NIOSSLHandler) {
    self.logger = logger
    self.makeHandler = makeHandler
  }

  func handlerAdded(context: ChannelHandlerContext) {
    do {
      let handler = try makeHandler()
      self.handler = handler
      try context.pipeline.syncOperations.addHandler(handler, position: .before(self))
    } catch {
      // Nothing may be sent without it.
      return context.close(promise: nil)
    }
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    alarm = context.eventLoop.scheduleTask(in: .seconds(Self.handshakeSecondsMax)) {
      let (watch, context) = bound.value
      watch.failed(TLSFailure("the handshake did not end in time"), context)
      context.close(promise: nil)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  func channelInactive(context: ChannelHandlerContext) {
    end()
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted? = event as? TLSUserEvent {
      isEstablished = true
      alarm?.cancel()
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let isOurs = error is NIOSSLError || error is BoringSSLError || error is NIOSSLExtraError
    guard isOurs else { return context.fireErrorCaught(error) }
    failed(TLSFailure(error, peer: handler?.peerCertificate), context)
  }

  private func failed(_ failure: TLSFailure, _ context: ChannelHandlerContext) {
    if !isEstablished {
      alarm?.cancel()
      let peer = context.remoteAddress.map(describe) ?? "?"
      logger?.info(
        "refused a connection", metadata: ["address": "\(peer)", "reason": "\(failure)"])
    }
    context.fireErrorCaught(failure)
  }

  private func end() {
    alarm?.cancel()
    handler = nil
  }
}
