// How connections are encrypted, for listeners and clients that need not know TLS. It is done in the
// module `Access`.

import NIOCore

/// Makes the first handler of a connection. Safe to use from any thread; what is made follows the
/// certificates that are valid at that moment, so they can be replaced while connections are open.
public protocol TransportSecurity: Sendable {
  /// For the accepting side, to be added before any other handler. Whoever does not speak TLS is
  /// closed.
  func serverHandler() throws -> any ChannelHandler
  /// For the connecting side.
  ///
  /// - Parameter host: the name or address that the certificate of the other side must have.
  func clientHandler(host: String) throws -> any ChannelHandler
}
