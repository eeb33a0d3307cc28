// TLS for everything that listens and connects. The certificates can be replaced while connections
// are open: those go on with what they have.
//
// Source: RFC 8446; docs/SECURITY.md

import Logging
import NIOCore
import NIOSSL
import Serving
import Synchronization

/// The files of a node's TLS.
public struct TLSFiles: Equatable, Sendable {
  /// The certificate that this node shows, and those between it and the authority, in PEM.
  public var certificate: String?
  /// The private key of it, in PEM, which only its owner may read.
  public var key: String?
  /// The authorities that the other side's certificate must come from; nil for the system's.
  public var authority: String?

  public init(certificate: String? = nil, key: String? = nil, authority: String? = nil) {
    self.certificate = certificate
    self.key = key
    self.authority = authority
  }
}

/// TLS made of files.
public final class TLSTransport: TransportSecurity {
  private struct Contexts {
    var server: NIOSSLContext?
    var client: NIOSSLContext
  }

  private let files: TLSFiles
  private let verifiesClients: Bool
  private let logger: Logger
  private let contexts: Mutex<Contexts>

  /// - Parameters:
  ///   - verifiesClients: whether who connects must show a certificate of `files.authority`.
  /// - Throws: `KeyFileFailure`.
  public init(files: TLSFiles, verifiesClients: Bool, logger: Logger) throws(KeyFileFailure) {
    self.files = files
    self.verifiesClients = verifiesClients
    self.logger = logger
    contexts = Mutex(try Self.load(files, verifiesClients: verifiesClients))
  }

  /// Reads the files again. Connections from now on use what is in them.
  ///
  /// - Throws: what is wrong with them; then all stays as it was.
  public func reload() throws(KeyFileFailure) {
    let loaded = try Self.load(files, verifiesClients: verifiesClients)
    contexts.withLock { $0 = loaded }
  }

  public func serverHandler() throws -> any ChannelHandler {
    guard let context = contexts.withLock({ $0.server }) else {
      throw KeyFileFailure("a listener with TLS needs a certificate and its key")
    }
    return TLSWatch(logger: logger) { NIOSSLServerHandler(context: context) }
  }

  public func clientHandler(host: String) throws -> any ChannelHandler {
    let context = contexts.withLock { $0.client }
    // Certificates for addresses are compared with the address that was connected to.
    let name = TLSFailure.isAddress(host) ? nil : host
    return TLSWatch(logger: nil) {
      try NIOSSLClientHandler(context: context, serverHostname: name)
    }
  }

  // MARK: Files

  private static func load(
    _ files: TLSFiles, verifiesClients: Bool
  ) throws(KeyFileFailure) -> Contexts {
    let chain = try files.certificate.map(certificates) ?? []
    let key = try files.key.map(privateKey)
    guard chain.isEmpty == (key == nil) else {
      throw KeyFileFailure("a certificate and its key go together")
    }
    let roots = try files.authority.map(certificates)
    var client = TLSConfiguration.makeClientConfiguration()
    client.minimumTLSVersion = .tlsv12
    if let roots { client.trustRoots = .certificates(roots) }
    client.certificateChain = chain.map { .certificate($0) }
    client.privateKey = key.map { .privateKey($0) }
    var server: TLSConfiguration?
    if let key {
      var made = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
      made.minimumTLSVersion = .tlsv12
      if verifiesClients {
        guard let roots else {
          throw KeyFileFailure("who connects can only be known with an authority of your own")
        }
        made.trustRoots = .certificates(roots)
        made.certificateVerification = .noHostnameVerification
      }
      server = made
    }
    do {
      return Contexts(
        server: try server.map { try NIOSSLContext(configuration: $0) },
        client: try NIOSSLContext(configuration: client))
    } catch {
      let names = [files.certificate, files.key].compactMap(\.self).joined(separator: " and ")
      throw KeyFileFailure("\(names): the certificate and the key do not go together")
    }
  }

  private static func certificates(_ path: String) throws(KeyFileFailure) -> [NIOSSLCertificate] {
    let bytes = try KeyFile.read(path, isPrivate: false)
    guard let found = try? NIOSSLCertificate.fromPEMBytes(bytes), !found.isEmpty else {
      throw KeyFileFailure("\(path) holds no certificate in PEM")
    }
    return found
  }

  private static func privateKey(_ path: String) throws(KeyFileFailure) -> NIOSSLPrivateKey {
    let bytes = try KeyFile.read(path, isPrivate: true)
    guard let key = try? NIOSSLPrivateKey(bytes: bytes, format: .pem) else {
      throw KeyFileFailure("\(path) holds no private key in PEM, or one with a password")
    }
    return key
  }
}
