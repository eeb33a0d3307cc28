// Accepts the clients that speak HTTP: Turso's libraries, embedded replicas, people with curl.
//
// Source: RFC 9112; docs/HTTP.md

import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOPosix
import Synchronization

/// What an HTTP listener is configured with.
public struct HTTPOptions: Sendable {
  public var limits = ServingLimits()
  public var logger = Logger(label: "edge-sql")
  /// Checks the credentials of clients; nil when none are asked for.
  public var verifier: (any CredentialVerifier)?
  /// TLS; nil for plain text.
  public var transport: (any TransportSecurity)?
  /// Connections of other listeners count, too.
  public var connections = ConnectionTotal()

  public init() {}
}

/// The listening socket for HTTP, and its connections.
public final class HTTPServer: Sendable {
  let directory: any DatabaseDirectory
  let options: HTTPOptions
  let streams: HranaStreams
  let router: HTTPRouter
  private let group: any EventLoopGroup
  private let connections: HTTPConnections
  private let channel = Mutex<(any Channel)?>(nil)

  private static let backlog: Int32 = 1024
  private static let pollMilliseconds: Int64 = 10

  /// - Parameter routes: what is served; the router's own table when nil.
  public init(
    directory: any DatabaseDirectory, group: any EventLoopGroup, options: HTTPOptions,
    routes: [HTTPRoute]? = nil
  ) {
    self.directory = directory
    self.group = group
    self.options = options
    streams = HranaStreams(limits: options.limits)
    router = HTTPRouter(routes: routes ?? HTTPRouter.routes)
    connections = HTTPConnections(total: options.connections)
  }

  /// How many clients are connected.
  public var connectionCount: Int { connections.count }

  /// Begins to accept clients.
  ///
  /// - Returns: the address, with the port that was chosen when `port` is 0.
  /// - Throws: when the address cannot be used.
  public func start(host: String, port: Int) async throws -> SocketAddress {
    let logger = options.logger
    let channel = try await ServerBootstrap(group: group)
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
        channel.eventLoop.makeCompletedFuture { try self.prepare(channel) }
      }
      .bind(host: host, port: port).get()
    self.channel.withLock { $0 = channel }
    guard let address = channel.localAddress else { throw ChannelError.unknownLocalAddress }
    return address
  }

  private func prepare(_ channel: any Channel) throws {
    let pipeline = channel.pipeline.syncOperations
    if let transport = options.transport { try pipeline.addHandler(transport.serverHandler()) }
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
    connections.drain()
    let rounds = Int64(options.limits.drainMilliseconds) / Self.pollMilliseconds
    for _ in 0..<max(1, rounds) where connections.count > 0 {
      try? await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
    }
    connections.abort()
    await streams.close()
  }
}
