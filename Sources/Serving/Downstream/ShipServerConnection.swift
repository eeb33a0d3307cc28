// A follower's own connection: takes messages out of the bytes, and puts those of the session in.

import NIOCore
import WALShip

/// The handler of a follower's connection with one database.
final class ShipServerConnection: ChannelInboundHandler, ShipOutlet {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let session: ShipServerSession
  private var context: ChannelHandlerContext?
  private var received = ByteBuffer()

  init(session: ShipServerSession) { self.session = session }

  // MARK: Channel

  func channelActive(context: ChannelHandlerContext) {
    self.context = context
    session.begin(self)
  }

  func channelInactive(context: ChannelHandlerContext) { session.close() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { session.failed(error) }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { session.pump() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { session.take(message) }
    } catch {
      session.broke(error)
    }
    received.discardReadBytes()
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

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
