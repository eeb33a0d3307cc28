// Why TLS failed, in a sentence that says what to look at.
//
// BoringSSL tells only that a certificate was not accepted; when it has expired can be seen in it.

import NIOCore
import NIOSSL
import Serving
import Store

/// An error of TLS for people.
public struct TLSFailure: Error, Equatable, Sendable, CustomStringConvertible {
  public var reason: String
  public var description: String { "TLS: \(reason)" }

  init(_ reason: String) { self.reason = reason }

  /// - Parameter peer: the certificate of the other side, if it sent one.
  init(_ error: any Error, peer: NIOSSLCertificate?) {
    reason = Self.reason("\(error)", peer, error)
  }

  private static func reason(
    _ text: String, _ peer: NIOSSLCertificate?, _ error: any Error
  ) -> String {
    if case .uncleanShutdown? = error as? NIOSSLError {
      return "the other side closed the connection without a word"
    }
    if let error = error as? NIOSSLExtraError, error == .failedToValidateHostname {
      return "the certificate of the other side is for another name"
    }
    if let error = error as? NIOSSLError, error == .unableToValidateCertificate {
      return "the certificate of the other side is for another name"
    }
    for (mark, sentence) in sentences where text.contains(mark) { return sentence }
    guard text.contains("CERTIFICATE_VERIFY_FAILED") else { return text }
    return rejected(peer)
  }

  /// Errors of BoringSSL by their names, alerts of the other side among them.
  private static let sentences = [
    ("EOF during handshake", "the other side closed the connection during the handshake"),
    ("WRONG_VERSION_NUMBER", "the other side does not speak TLS"),
    ("HTTP_REQUEST", "the other side speaks HTTP without TLS"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the other side showed no certificate"),
    ("CERTIFICATE_REQUIRED", "the other side wants a certificate: give --tls-cert and --tls-key"),
    ("ALERT_UNKNOWN_CA", "the other side does not know the authority of our certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "the other side says that our certificate has expired"),
    ("ALERT_BAD_CERTIFICATE", "the other side does not accept our certificate"),
    ("ALERT_CERTIFICATE_UNKNOWN", "the other side does not accept our certificate"),
    ("ALERT_HANDSHAKE_FAILURE", "the other side refused the handshake"),
    ("UNSUPPORTED_PROTOCOL", "the other side speaks a version of TLS before 1.2"),
  ]

  private static func rejected(_ peer: NIOSSLCertificate?) -> String {
    let now = Int(wallClockMicroseconds() / 1_000_000)
    if let peer, peer.notValidAfter < now {
      return "the certificate of the other side has expired"
    }
    if let peer, peer.notValidBefore > now {
      return "the certificate of the other side is not valid yet"
    }
    return "the certificate of the other side does not come from an authority of --tls-ca, "
      + "or has expired"
  }

  /// Whether a host is an address and not a name.
  static func isAddress(_ host: String) -> Bool {
    (try? SocketAddress(ipAddress: host, port: 0)) != nil
  }
}
