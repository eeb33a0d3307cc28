// The yardstick of everything that goes over a socket: a NIO server that sends back what it gets, with as many event
// loops as a node has.

import NIOCore
import NIOPosix

/// A bare echo server on 127.0.0.1.
final class EchoServer: Sendable {
  let port: Int
  private let group: MultiThreadedEventLoopGroup
  private let channel: any Channel

  init() async throws {
    group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    channel = try await ServerBootstrap(group: group)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(EchoHandler())
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  /// Returns when the server has ended.
  func closed() async throws { try await channel.closeFuture.get() }

  func stop() async throws {
    try await channel.close()
    try await group.shutdownGracefully()
  }
}

private final class EchoHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    context.write(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }
}
