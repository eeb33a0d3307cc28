// TLS for a program that reads and writes a plain socket: the socket's other end is here, and what
// goes through it goes on encrypted.

import Glibc
import NIOCore
import NIOPosix
import NIOTLS
import Serving

/// Puts TLS between a connected socket and its user.
public enum TLSTunnel {
  private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

  /// Shakes hands on a connected socket, which belongs to the tunnel from now on. Waits until that
  /// is done: never call it on an event loop.
  ///
  /// - Parameters:
  ///   - socket: of TCP.
  ///   - host: the name or address that the other side's certificate must have.
  /// - Returns: a socket that does not block, for the plain text. Closing it closes the connection.
  public static func open(
    _ socket: Int32, host: String, transport: any TransportSecurity
  ) throws(TLSFailure) -> Int32 {
    let loop = group.next()
    let established = loop.makePromise(of: Void.self)
    let remote = loop.makePromise(of: (any Channel).self)
    ClientBootstrap(group: loop)
      .channelOption(.autoRead, value: false)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(transport.clientHandler(host: host))
          try pipeline.addHandler(HandshakeWait(established))
        }
      }
      .withConnectedSocket(socket).cascade(to: remote)
    do {
      let channel = try remote.futureResult.wait()
      // Nobody asks for bytes yet but the handshake.
      try channel.setOption(.autoRead, value: true).wait()
      try established.futureResult.wait()
      return try join(channel, loop)
    } catch let failure as TLSFailure {
      throw failure
    } catch {
      established.fail(error)
      throw TLSFailure("\(error)")
    }
  }

  private static func join(_ remote: any Channel, _ loop: any EventLoop) throws -> Int32 {
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
      throw TLSFailure("there are no more sockets")
    }
    let (near, far) = (ends[0], ends[1])
    do {
      let local = try ClientBootstrap(group: loop)
        .channelOption(.autoRead, value: false)
        .withConnectedSocket(far).wait()
      try loop.submit {
        let (one, other) = TunnelEnd.pair()
        try remote.pipeline.syncOperations.addHandler(one)
        try local.pipeline.syncOperations.addHandler(other)
        try remote.syncOptions?.setOption(.autoRead, value: false)
        one.start()
        other.start()
      }.wait()
    } catch {
      close(near)
      throw error
    }
    return near
  }
}

/// Tells when the handshake is over.
private final class HandshakeWait: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let established: EventLoopPromise<Void>
  private var isOver = false

  init(_ established: EventLoopPromise<Void>) { self.established = established }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted? = event as? TLSUserEvent, !isOver {
      isOver = true
      established.succeed()
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isOver else { return context.fireErrorCaught(error) }
    isOver = true
    established.fail(error)
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isOver {
      isOver = true
      established.fail(TLSFailure("the other side closed the connection"))
    }
    context.fireChannelInactive()
  }
}

/// One end of the tunnel: what comes here goes to the other end, as fast as that takes it.
private final class TunnelEnd: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private var other: TunnelEnd?
  private var context: ChannelHandlerContext?

  static func pair() -> (TunnelEnd, TunnelEnd) {
    let (one, other) = (TunnelEnd(), TunnelEnd())
    one.other = other
    other.other = one
    return (one, other)
  }

  func start() { context?.read() }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    other = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard let there = other?.context else { return }
    there.write(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    guard let there = other?.context else { return }
    there.flush()
    if there.channel.isWritable { context.read() }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { other?.context?.read() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    other?.context?.close(promise: nil)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
