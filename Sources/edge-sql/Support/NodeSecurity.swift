// What a node is told about credentials and TLS: made of files at the start, and again when SIGHUP
// comes, while clients stay connected.

import Access
import ArgumentParser
import Logging
import ServiceLifecycle
import Serving
import UnixSignals

/// The options of a node that are about who may do what.
struct SecurityArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Ask clients for tokens signed with a key of this file; may be given several times.",
      valueName: "file"))
  var authJwtKeyFile: [String] = []
  @Flag(help: "Refuse tokens that never expire.") var authRequireExp = false
  @Option(help: ArgumentHelp("This node's certificate, for TLS everywhere.", valueName: "file"))
  var tlsCert: String?
  @Option(help: ArgumentHelp("The private key of the certificate.", valueName: "file"))
  var tlsKey: String?
  @Option(
    help: ArgumentHelp(
      "The authority whose certificates other nodes must show.", valueName: "file"))
  var tlsCa: String?

  var flags: [GivenFlag?] {
    let keys = authJwtKeyFile.isEmpty ? nil : authJwtKeyFile.joined(separator: ",")
    return [
      Settings.authKeyFiles.flag(keys),
      Settings.authRequireExp.flag(authRequireExp ? true : nil),
      Settings.tlsCert.flag(tlsCert), Settings.tlsKey.flag(tlsKey), Settings.tlsCA.flag(tlsCa),
    ]
  }
}

/// The credentials and the TLS of a node.
struct NodeSecurity: Sendable {
  let verifier: TokenVerifier?
  let transport: TLSTransport?
  let shipTransport: TLSTransport?
  /// Whether nodes must show each other certificates.
  let nodesAreVerified: Bool
  private let keyFiles: [String]
  private let logger: Logger

  init(_ configuration: Configuration, logger: Logger) async throws {
    let files = TLSFiles(
      certificate: try configuration.optional(Settings.tlsCert),
      key: try configuration.optional(Settings.tlsKey),
      authority: try configuration.optional(Settings.tlsCA))
    guard (files.certificate == nil) == (files.key == nil) else {
      throw CommandFailure(.configuration, "--tls-cert and --tls-key go together")
    }
    self.logger = logger
    keyFiles = try configuration.optional(Settings.authKeyFiles) ?? []
    let requiresExpiry = try configuration[Settings.authRequireExp]
    guard !requiresExpiry || !keyFiles.isEmpty else {
      throw configuration.failure(
        Settings.authRequireExp, "goes with --auth-jwt-key-file: without it no tokens are asked for"
      )
    }
    let listens = files.certificate != nil
    nodesAreVerified = listens && files.authority != nil
    do {
      verifier =
        keyFiles.isEmpty
        ? nil
        : TokenVerifier(keys: try await TokenKey.load(keyFiles), requiresExpiry: requiresExpiry)
      transport =
        listens ? try TLSTransport(files: files, verifiesClients: false, logger: logger) : nil
      shipTransport =
        files == TLSFiles()
        ? nil
        : try TLSTransport(files: files, verifiesClients: nodesAreVerified, logger: logger)
    } catch let failure as KeyFileFailure {
      throw CommandFailure(.configuration, failure.description)
    }
  }

  /// Reads all files again. What is wrong with one leaves it as it was.
  func reload() async {
    do {
      if let verifier { verifier.replace(keys: try await TokenKey.load(keyFiles)) }
      try transport?.reload()
      try shipTransport?.reload()
      logger.notice("keys and certificates were read again")
    } catch {
      logger.error(
        "keys and certificates stay as they were", metadata: ["reason": "\(error)"])
    }
  }
}

/// Reads keys and certificates again whenever SIGHUP comes.
struct SecurityReload: Service {
  let security: NodeSecurity

  func run() async throws {
    let signals = await UnixSignalsSequence(trapping: .sighup)
    for await _ in signals.cancelOnGracefulShutdown() { await security.reload() }
  }
}
