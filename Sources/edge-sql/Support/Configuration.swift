// Where the value of a setting comes from: flag, else environment, else configuration file, else
// default. The settings themselves are in `Settings`. Nothing here knows what a setting means.

import ArgumentParser
import Serving

/// The merged configuration of one run. Every given value has been checked when it exists.
struct Configuration: Sendable {
  /// Who gave a value.
  enum Origin: Equatable, Sendable, CustomStringConvertible {
    case flag(String)
    case environment(String)
    case file(path: String, key: String)
    case builtIn

    var description: String {
      switch self {
      case .flag(let name): name
      case .environment(let name): name
      case .file(let path, let key): "\(key) in \(path)"
      case .builtIn: "default"
      }
    }
  }

  private struct Given: Sendable {
    var text: String
    var origin: Origin
  }

  /// The configuration file that was read, if there was one.
  let filePath: String?
  private var given: [String: Given] = [:]

  /// Merges the sources; everything that can be wrong with them is found here.
  ///
  /// - Throws: a failure with exit code 78 that names the source.
  init(
    flags: [GivenFlag?] = [], environment: (String) -> String? = { _ in nil },
    file: ConfigurationFile? = nil
  ) throws(CommandFailure) {
    filePath = file?.path
    if let file {
      for (key, text) in try file.texts() {
        given[key] = Given(text: text, origin: .file(path: file.path, key: key))
      }
    }
    for setting in Settings.all {
      // An empty variable is a variable that is not set: that is how container files unset one.
      guard let text = environment(setting.environmentName), !text.isEmpty else { continue }
      given[setting.name] = Given(text: text, origin: .environment(setting.environmentName))
    }
    for case let flag? in flags {
      guard let setting = Settings.all.first(where: { $0.name == flag.name }) else {
        preconditionFailure("\(flag.name) is missing in Settings.all")
      }
      given[flag.name] = Given(text: flag.text, origin: .flag(setting.flagName))
    }
    for setting in Settings.all {
      guard let value = given[setting.name] else { continue }
      do { try setting.check(value.text) } catch { throw Self.failure(value.origin, error) }
    }
  }

  /// The value of a setting that has a default or must be given.
  ///
  /// - Throws: a failure with exit code 78 that says how to give it.
  subscript<Value>(setting: Setting<Value>) -> Value {
    get throws(CommandFailure) {
      if let value = try optional(setting) { return value }
      throw CommandFailure(
        .configuration, "\(setting.name) is not set: \(setting.summary)",
        hint: "Give \(setting.flagName), or \(setting.environmentName) in the environment, or "
          + "\"\(setting.name)\" in the configuration file.")
    }
  }

  /// The value of a setting that may be absent.
  func optional<Value>(_ setting: Setting<Value>) throws(CommandFailure) -> Value? {
    guard let text = given[setting.name]?.text ?? setting.defaultText else { return nil }
    do { return try setting.parse(text) } catch { throw Self.failure(origin(of: setting), error) }
  }

  /// The value of a setting whose default depends on the command.
  func value<Value>(
    _ setting: Setting<Value>, builtIn text: String
  ) throws(CommandFailure) -> Value {
    do { return try setting.parse(given[setting.name]?.text ?? text) } catch {
      throw Self.failure(origin(of: setting), error)
    }
  }

  func origin(of setting: some SettingEntry) -> Origin {
    given[setting.name]?.origin ?? .builtIn
  }

  /// A failure for a value that is fine by itself but does not go with another one.
  func failure(_ setting: some SettingEntry, _ message: String) -> CommandFailure {
    Self.failure(origin(of: setting), BadValue(message))
  }

  /// Every setting that has a value, with its source; secrets are not shown.
  func effective() -> [(key: String, value: String, origin: Origin)] {
    Settings.all.compactMap { setting in
      guard let text = given[setting.name]?.text ?? setting.defaultText else { return nil }
      let shown = setting.isSecret ? "(hidden)" : text
      return (setting.name, shown, given[setting.name]?.origin ?? .builtIn)
    }
  }

  private static func failure(_ origin: Origin, _ reason: BadValue) -> CommandFailure {
    CommandFailure(.configuration, "\(origin): \(reason)")
  }
}

/// `--config FILE`, for every command that takes settings.
struct ConfigurationOptions: ParsableArguments {
  @Option(
    name: .customLong("config"),
    help: ArgumentHelp(
      "Read settings from this JSON file.",
      discussion: "Without it ./edge-sql.json and then /etc/edge-sql/edge-sql.json is read.",
      valueName: "file"))
  var file: String?

  /// Merges the command line with the environment and the file.
  func load(flags: [GivenFlag?] = []) throws(CommandFailure) -> Configuration {
    let path = file ?? environment("EDGE_SQL_CONFIG").flatMap { $0.isEmpty ? nil : $0 }
    return try Configuration(
      flags: flags, environment: { environment($0) }, file: ConfigurationFile.find(path))
  }
}
