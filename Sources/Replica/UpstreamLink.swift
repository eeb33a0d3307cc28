// How a replica makes a connection to the node above.

import NIOCore
import NIOPosix
import Serving
import Store

/// Makes a connection on a loop, whose handler `handler` gives; it is called on the loop, once.
/// The result fails when the connection could not be made.
package typealias UpstreamLink = (
  _ address: NodeAddress, _ loop: any EventLoop,
  _ handler: @escaping @Sendable () -> any ChannelInboundHandler
) -> EventLoopFuture<Void>

/// Connects over TCP.
///
/// - Parameter transport: TLS; nil for plain text.
func connectByTCP(_ transport: (any TransportSecurity)?) -> UpstreamLink {
  { address, loop, handler in connect(to: address, on: loop, transport, handler) }
}

private func connect(
  to address: NodeAddress, on loop: any EventLoop, _ transport: (any TransportSecurity)?,
  _ handler: @escaping @Sendable () -> any ChannelInboundHandler
) -> EventLoopFuture<Void> {
  ClientBootstrap(group: loop)
    .channelOption(.tcpOption(.tcp_nodelay), value: 1)
    .channelOption(.maxMessagesPerRead, value: 16)
    .channelOption(
      .recvAllocator,
      value: AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 65536, maximum: 1 << 20)
    )
    .connectTimeout(.seconds(5))
    .channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        let pipeline = channel.pipeline.syncOperations
        if let transport { try pipeline.addHandler(transport.clientHandler(host: address.host)) }
        try pipeline.addHandler(handler())
      }
    }
    .connect(host: address.host, port: address.port)
    .map { _ in }
}

/// An error in few words.
func brief(_ error: any Error) -> String {
  switch error {
  case let error as NIOConnectionError:
    error.connectionErrors.first.map { brief($0.error) } ?? "\(error.dnsAError ?? error)"
  case let error as IOError: DiskError.text(error.errnoCode)
  case ChannelError.connectTimeout: "no answer"
  default: "\(error)"
  }
}
