// Accepts clients that speak HTTP/1.1: Turso's client libraries, browsers, curl, Prometheus.
// Source: docs/HTTP.md

import Logging
import NIOCore
import NIOPosix
import Synchronization

/// The listening socket for HTTP, and its connections. Safe to use from any thread.
public final class HTTPServer: Sendable {
  let directory: any DatabaseDirectory
  let router: HTTPRouter
  let limits: ServingLimits
  let logger: Logger
  let hrana: HranaServer
  let verifier: (any CredentialVerifier)?
  private let transport: (any TransportSecurity)?
  private let group: any EventLoopGroup
  private let channel = Mutex<(any Channel)?>(nil)
  private let connections: ClientConnections

  private static let backlog: Int32 = 1024

  /// - Parameters:
  ///   - routes: those of the node beside Hrana's own.
  ///   - verifier: checks clients' credentials; nil when none are asked for.
  ///   - transport: TLS; nil for plain text.
  ///   - total: the connections of all listeners of the node.
  public init(
    directory: any DatabaseDirectory, routes: [HTTPRoute] = [], limits: ServingLimits,
    group: any EventLoopGroup, verifier: (any CredentialVerifier)? = nil,
    transport: (any TransportSecurity)? = nil, total: ConnectionTotal = ConnectionTotal(),
    logger: Logger
  ) {
    self.directory = directory
    self.limits = limits
    self.group = group
    self.verifier = verifier
    self.transport = transport
    self.logger = logger
    connections = ClientConnections(limits: limits, total: total)
    let hrana = HranaServer(limits: limits)
    self.hrana = hrana
    router = HTTPRouter(hrana.routes + OperationRoutes.all + SyncRoutes.all + routes)
  }

  /// How many clients are connected.
  public var connectionCount: Int { connections.count }

  /// Begins to accept clients.
  ///
  /// - Returns: the address, with the port that was chosen when `port` is 0.
  /// - Throws: `ListenFailure` when the address cannot be used.
  public func start(host: String, port: Int) async throws -> SocketAddress {
    let logger = logger
    let (channel, address) = try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: Self.backlog)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(AcceptFailures(logger: logger))
        }
      }
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelOption(.maxMessagesPerRead, value: 4)
      .childChannelOption(
        .recvAllocator,
        value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 4096, maximum: 64 << 10)
      )
      .childChannelOption(.writeBufferWaterMark, value: .init(low: 64 << 10, high: 256 << 10))
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try self.configure(channel) }
      }
      .listen(host: host, port: port)
    self.channel.withLock { $0 = channel }
    connections.sweep(for: directory, on: group.next())
    return address
  }

  private func configure(_ channel: any Channel) throws {
    let pipeline = channel.pipeline.syncOperations
    if let transport { try pipeline.addHandler(transport.serverHandler()) }
    try HTTPConnection(server: self, connections: connections, loop: channel.eventLoop)
      .addHandlers(to: pipeline)
  }

  /// Accepts nobody any more, lets the connections answer what they work on, and closes them.
  public func stop() async {
    let channel = channel.withLock { channel in
      defer { channel = nil }
      return channel
    }
    try? await channel?.close()
    await connections.close()
    hrana.stop()
  }
}
