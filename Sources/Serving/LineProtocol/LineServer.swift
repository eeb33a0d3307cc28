// Accepts the clients of the line protocol.

import Logging
import NIOCore
import NIOPosix
import Store
import Synchronization

/// The listening socket of the line protocol, and its connections.
public final class LineServer: Sendable {
  private let directory: any DatabaseDirectory
  private let limits: ServingLimits
  private let logger: Logger
  private let group: any EventLoopGroup
  private let connections: ClientConnections
  private let verifier: (any CredentialVerifier)?
  private let transport: (any TransportSecurity)?
  private let channel = Mutex<(any Channel)?>(nil)

  private static let backlog: Int32 = 1024

  /// - Parameters:
  ///   - verifier: checks clients' credentials; nil when none are asked for.
  ///   - transport: TLS; nil for plain text.
  ///   - total: the connections of all listeners of the node.
  public init(
    directory: any DatabaseDirectory, limits: ServingLimits, logger: Logger,
    group: any EventLoopGroup, verifier: (any CredentialVerifier)? = nil,
    transport: (any TransportSecurity)? = nil, total: ConnectionTotal = ConnectionTotal()
  ) {
    self.verifier = verifier
    self.transport = transport
    self.directory = directory
    self.limits = limits
    self.logger = logger
    self.group = group
    connections = ClientConnections(limits: limits, total: total)
  }

  /// A server of one database.
  public convenience init(
    node: NodeContext, group: any EventLoopGroup, verifier: (any CredentialVerifier)? = nil,
    transport: (any TransportSecurity)? = nil
  ) {
    self.init(
      directory: SingleDatabase(node), limits: node.limits, logger: node.logger, group: group,
      verifier: verifier, transport: transport)
  }

  /// How many clients are connected.
  public var connectionCount: Int { connections.count }

  /// Begins to accept clients.
  ///
  /// - Returns: the address, with the port that was chosen when `port` is 0.
  /// - Throws: `ListenFailure` when the address cannot be used.
  public func start(host: String, port: Int) async throws -> SocketAddress {
    let logger = logger
    let transport = transport
    let (channel, address) = try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: Self.backlog)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(
            AcceptFailures(logger: logger))
        }
      }
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.maxMessagesPerRead, value: 4)
      .childChannelOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 4096, maximum: 64 << 10)
      )
      .childChannelOption(
        .writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10)
      )
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if let transport { try pipeline.addHandler(transport.serverHandler()) }
          try pipeline.addHandler(self.makeSession(on: channel.eventLoop))
        }
      }
      .listen(host: host, port: port)
    self.channel.withLock { $0 = channel }
    connections.sweep(for: directory, on: group.next())
    return address
  }

  /// What serves one client, as a handler of its connection.
  package func makeSession(on loop: any EventLoop) -> any ChannelHandler {
    LineSession(
      directory: directory, limits: limits, logger: logger, loop: loop, connections: connections,
      verifier: verifier)
  }

  /// Accepts nobody any more, lets the connections answer what they work on, and closes them.
  public func stop() async {
    let channel = channel.withLock { channel in
      defer { channel = nil }
      return channel
    }
    try? await channel?.close()
    await connections.close()
  }
}
