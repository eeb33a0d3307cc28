// Where the clients of a node connect, the same on both roles: the line protocol, and HTTP.

import NIOCore
import Synchronization

/// The listeners of a node. Safe to use from any thread.
public final class ClientListeners: Sendable {
  private let line: LineServer?
  private let http: HTTPServer?
  private let directory: any DatabaseDirectory
  private let options: NodeOptions

  /// Makes the listeners that `options` ask for; nobody can connect yet.
  ///
  /// - Parameter routes: of HTTP, beside those that every node has.
  public init(
    directory: any DatabaseDirectory, options: NodeOptions, group: any EventLoopGroup,
    routes: [HTTPRoute] = []
  ) {
    self.options = options
    self.directory = directory
    let total = ConnectionTotal()
    line = options.listen.map { _ in
      LineServer(
        directory: directory, limits: options.limits, logger: options.logger, group: group,
        verifier: options.verifier, transport: options.transport, total: total)
    }
    http = options.http.map { _ in
      HTTPServer(
        directory: directory, routes: routes, limits: options.limits, group: group,
        verifier: options.verifier, transport: options.transport, total: total,
        logger: options.logger)
    }
  }

  /// The listeners of a node with one database.
  public convenience init(
    node: NodeContext, options: NodeOptions, group: any EventLoopGroup, routes: [HTTPRoute] = []
  ) {
    self.init(directory: SingleDatabase(node), options: options, group: group, routes: routes)
  }

  /// Where clients connect.
  public struct Addresses: Sendable {
    public var line: SocketAddress?
    public var http: SocketAddress?
    public init() {}
  }

  /// Begins to accept clients.
  ///
  /// - Throws: `ListenFailure` when an address cannot be used; then nobody is accepted.
  public func start() async throws -> Addresses {
    var addresses = Addresses()
    addresses.line =
      try await options.listen.asyncMap { address in
        try await line?.start(host: address.host, port: address.port)
      } ?? nil
    do {
      addresses.http =
        try await options.http.asyncMap { address in
          try await http?.start(host: address.host, port: address.port)
        } ?? nil
    } catch {
      await line?.stop()
      throw error
    }
    return addresses
  }

  /// How many clients are connected.
  public var connectionCount: Int { (line?.connectionCount ?? 0) + (http?.connectionCount ?? 0) }

  /// Accepts nobody any more, answers what was begun, and closes the connections and the readers.
  public func stop() async {
    async let stopped: Void? = http?.stop()
    await line?.stop()
    _ = await stopped
    directory.closeReaders()
  }
}
