// An address that a node was told to listen on, and cannot.

import NIOCore
import NIOPosix
import Store

/// Says which address cannot be used, and why. Nothing listens there then; another address, or
/// another moment, may do.
public struct ListenFailure: Error, Sendable, CustomStringConvertible {
  public var address: NodeAddress
  /// What the system said.
  public var cause: any Error

  public var description: String {
    let reason =
      switch cause {
      case let error as IOError: DiskError.text(error.errnoCode)
      case SocketAddressError.unknown: "there is no such host"
      default: "\(cause)"
      }
    return "cannot listen on \(address): \(reason)"
  }
}

extension ServerBootstrap {
  /// Begins to accept connections.
  ///
  /// - Returns: the listening channel, and the address in use, with the port that the system chose if
  ///   it was 0.
  /// - Throws: `ListenFailure`.
  func listen(host: String, port: Int) async throws -> (
    channel: any Channel, address: SocketAddress
  ) {
    do {
      let channel = try await bind(host: host, port: port).get()
      guard let address = channel.localAddress else { throw ChannelError.unknownLocalAddress }
      return (channel, address)
    } catch {
      throw ListenFailure(address: NodeAddress(host: host, port: port), cause: error)
    }
  }
}
