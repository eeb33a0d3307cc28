// The connection of a replica with one database: takes messages out of the bytes, and puts those of
// the session in.

import NIOCore
import Serving
import WALShip

/// The handler of the upstream connection.
final class UpstreamConnection: ChannelInboundHandler, ShipOutlet {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let session: UpstreamSession
  private var context: ChannelHandlerContext?
  private var received = ByteBuffer()

  init(session: UpstreamSession) { self.session = session }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    session.begin(self)
  }

  func channelInactive(context: ChannelHandlerContext) { session.lost() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    session.close(reason: brief(error))
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { session.take(message) }
    } catch {
      session.fail(error)
    }
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    session.readComplete()
    context.flush()
  }

  // MARK: Outlet

  var isWritable: Bool { context?.channel.isWritable ?? false }
  var address: String { context?.remoteAddress.map(describe) ?? "?" }
  func write(_ messages: ByteBuffer) { context?.write(wrapOutboundOut(messages), promise: nil) }
  func flush() { context?.flush() }

  func close(_ end: ShipEnd) {
    context?.close(promise: nil)
    context = nil
  }
}
