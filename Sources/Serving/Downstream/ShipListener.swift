// Where followers connect: the listening socket of a node with one database, and of one with many.

import Logging
import NIOCore
import NIOPosix

enum ShipListener {
  /// Bytes that may wait in one follower's socket before nothing more is written to it.
  private static let waitingBytesMax = 1 << 20

  /// Begins to accept followers.
  ///
  /// - Parameter handler: makes what serves a connection.
  /// - Returns: the listening channel, and the address in use, with the port that the system chose if
  ///   it was 0.
  /// - Throws: `ListenFailure`.
  static func start(
    on loop: any EventLoop, host: String, port: Int, transport: (any TransportSecurity)?,
    logger: Logger, handler: @escaping @Sendable () -> any ChannelInboundHandler
  ) async throws -> (channel: any Channel, address: SocketAddress) {
    let bootstrap = ServerBootstrap(group: loop)
      .serverChannelOption(.backlog, value: 256)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(AcceptFailures(logger: logger))
        }
      }
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(
        .writeBufferWaterMark, value: .init(low: waitingBytesMax / 4, high: waitingBytesMax)
      )
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let transport { try pipeline.addHandler(transport.serverHandler()) }
          try pipeline.addHandler(handler())
        }
      }
    return try await bootstrap.listen(host: host, port: port)
  }
}
