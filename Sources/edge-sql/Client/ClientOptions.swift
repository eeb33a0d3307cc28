// Options that every command that talks to a node has.

import Access
import ArgumentParser
import Logging
import Serving

/// Configuration, credential and timeouts of client commands.
struct ClientOptions: ParsableArguments {
  @OptionGroup var configuration: ConfigurationOptions

  @Option(help: ArgumentHelp("A file with the token for the node.", valueName: "file"))
  var tokenFile: String?
  @Flag(help: "Connect with TLS.") var tls = false
  @Option(
    help: ArgumentHelp(
      "Connect with TLS, to a node with a certificate of this authority.", valueName: "file"))
  var tlsCa: String?

  @Option(help: ArgumentHelp("How long connecting may take.", valueName: "duration"))
  var connectTimeout = "5s"

  /// The node and how to reach it.
  ///
  /// - Parameter address: what the command line says; nil takes it from the configuration.
  func settings(address: String?) throws -> ClientSettings {
    let merged = try configuration.load(flags: [
      Settings.tokenFile.flag(tokenFile), Settings.tls.flag(tls ? true : nil),
      Settings.tlsCA.flag(tlsCa),
    ])
    return ClientSettings(
      address: try address.map(serverAddress) ?? merged[Settings.address], auth: try auth(merged),
      transport: try transport(merged),
      connectMilliseconds: try milliseconds(connectTimeout, flag: "--connect-timeout"))
  }

  /// TLS when it is asked for: an authority in the environment or in a file, which nodes may read as
  /// well, only says whom to trust.
  private func transport(_ merged: Configuration) throws -> (any TransportSecurity)? {
    guard try merged[Settings.tls] || tlsCa != nil else { return nil }
    let files = TLSFiles(authority: try merged.optional(Settings.tlsCA))
    do throws(KeyFileFailure) {
      return try TLSTransport(
        files: files, verifiesClients: false, logger: Logger(label: "edge-sql"))
    } catch {
      throw merged.failure(Settings.tlsCA, error.description)
    }
  }

  /// A file given as a flag wins over a credential in the environment.
  private func auth(_ merged: Configuration) throws -> String? {
    if tokenFile == nil, let token = try merged.optional(Settings.token) { return token }
    guard let path = try merged.optional(Settings.tokenFile) else { return nil }
    do {
      let text = String(decoding: try TextFile.read(path, bytesMax: 65536), as: UTF8.self)
      return String(text.prefix { !$0.isNewline })
    } catch {
      throw merged.failure(Settings.tokenFile, error.description)
    }
  }
}

/// An address from the command line.
func serverAddress(_ text: String) throws(CommandFailure) -> ServerAddress {
  do { return try ServerAddress(text) } catch { throw CommandFailure(.usage, error.description) }
}

/// The milliseconds of a flag that takes a duration.
func milliseconds(_ text: String, flag: String) throws(CommandFailure) -> Int {
  do { return try DurationText.milliseconds(text) } catch {
    throw CommandFailure(.usage, "\(flag): \(error)")
  }
}
