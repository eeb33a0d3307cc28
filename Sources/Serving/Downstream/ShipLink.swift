// The connection of two nodes with one database: takes messages out of the bytes, and puts those of
// the session in. Both ends are the same; what they say is for their sessions to know.

import NIOCore
import WALShip

/// One end of a link with one database. It is used on one event loop.
public protocol ShipLinkSession: AnyObject {
  func begin(_ outlet: any ShipOutlet)
  func take(_ message: ShipMessage)
  /// Everything that had arrived was taken.
  func readComplete()
  func becameWritable()
  /// What arrived is no message.
  func broke(_ error: any Error)
  /// The connection failed.
  func failed(_ error: any Error)
  /// The connection is closed.
  func lost()
}

/// The handler of the connection.
public final class ShipLink: ChannelInboundHandler, ShipOutlet {
  public typealias InboundIn = ByteBuffer
  public typealias OutboundOut = ByteBuffer

  private let session: any ShipLinkSession
  private var context: ChannelHandlerContext?
  private var received = ByteBuffer()

  public init(session: any ShipLinkSession) { self.session = session }

  // MARK: Channel

  public func channelActive(context: ChannelHandlerContext) {
    self.context = context
    session.begin(self)
  }

  public func channelInactive(context: ChannelHandlerContext) { session.lost() }

  public func errorCaught(context: ChannelHandlerContext, error: any Error) {
    session.failed(error)
  }

  public func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { session.becameWritable() }
  }

  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    received.writeBuffer(&bytes)
    do {
      while let message = try received.readShipMessage() { session.take(message) }
    } catch {
      session.broke(error)
    }
    received.discardReadBytes()
  }

  public func channelReadComplete(context: ChannelHandlerContext) {
    session.readComplete()
    context.flush()
  }

  // MARK: Outlet

  public var isWritable: Bool { context?.channel.isWritable ?? false }
  public var address: String { context?.remoteAddress.map(describe) ?? "?" }

  public func write(_ messages: ByteBuffer) {
    context?.write(wrapOutboundOut(messages), promise: nil)
  }

  public func flush() { context?.flush() }

  public func close(_ end: ShipEnd) {
    context?.close(promise: nil)
    context = nil
  }
}

extension ShipServerSession: ShipLinkSession {
  func readComplete() {}
  func becameWritable() { pump() }
  func lost() { close() }
}
