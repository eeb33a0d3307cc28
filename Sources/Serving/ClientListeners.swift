// Where the clients of a node connect, the same on both roles: the line protocol, and HTTP.

import NIOCore
import Synchronization

/// The listeners of a node. Safe to use from any thread.
public final class ClientListeners: Sendable {
  private let line: LineServer?
  private let http: HTTPServer?
  private let readers: NodeReaders
  private let options: NodeOptions

  /// Makes the listeners that `options` ask for; nobody can connect yet.
  ///
  /// - Parameter routes: of HTTP, beside those that every node has.
  public init(
    node: NodeContext, options: NodeOptions, group: any EventLoopGroup, routes: [HTTPRoute] = []
  ) {
    self.options = options
    readers = node.readers
    let total = ConnectionTotal()
    line = options.listen.map { _ in
      LineServer(
        node: node, group: group, verifier: options.verifier, transport: options.transport,
        total: total)
    }
    http = options.http.map { _ in
      HTTPServer(
        directory: SingleDatabase(node), routes: routes, limits: options.limits, group: group,
        verifier: options.verifier, transport: options.transport, total: total,
        logger: options.logger)
    }
  }

  /// Where clients connect.
  public struct Addresses: Sendable {
    public var line: SocketAddress?
    public var http: SocketAddress?
    public init() {}
  }

  /// Begins to accept clients.
  ///
  /// - Throws: when an address cannot be used; then nobody is accepted.
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
    readers.close()
  }
}
