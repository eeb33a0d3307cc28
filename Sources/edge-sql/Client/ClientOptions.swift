// Options that every command that talks to a node has.

import ArgumentParser

/// Configuration, credential and timeouts of client commands.
struct ClientOptions: ParsableArguments {
  @OptionGroup var configuration: ConfigurationOptions

  @Option(help: ArgumentHelp("A file with the credential for the node.", valueName: "file"))
  var authFile: String?

  @Option(help: ArgumentHelp("How long connecting may take.", valueName: "duration"))
  var connectTimeout = "5s"

  /// The node and how to reach it.
  ///
  /// - Parameter address: what the command line says; nil takes it from the configuration.
  func settings(address: String?) throws -> ClientSettings {
    let merged = try configuration.load(flags: [Settings.authFile.flag(authFile)])
    return ClientSettings(
      address: try address.map(serverAddress) ?? merged[Settings.address], auth: try auth(merged),
      connectMilliseconds: try milliseconds(connectTimeout, flag: "--connect-timeout"))
  }

  /// A file given as a flag wins over a credential in the environment.
  private func auth(_ merged: Configuration) throws -> String? {
    if authFile == nil, let auth = try merged.optional(Settings.auth) { return auth }
    guard let path = try merged.optional(Settings.authFile) else { return nil }
    do {
      let text = String(decoding: try TextFile.read(path, bytesMax: 65536), as: UTF8.self)
      return String(text.prefix { !$0.isNewline })
    } catch {
      throw merged.failure(Settings.authFile, error.description)
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
