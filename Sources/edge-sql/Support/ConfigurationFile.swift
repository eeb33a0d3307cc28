// The configuration file: one JSON object of settings.

import Glibc
import Serving

/// A configuration file that has been read and parsed, not yet checked.
struct ConfigurationFile: Sendable {
  var path: String
  var content: JSONValue

  static let searchPaths = ["./edge-sql.json", "/etc/edge-sql/edge-sql.json"]
  static let bytesMax = 1 << 20

  /// Reads the file that was asked for, else the first one that exists.
  ///
  /// - Returns: nil when none was asked for and none exists.
  static func find(_ explicit: String?) throws(CommandFailure) -> ConfigurationFile? {
    for path in explicit.map({ [$0] }) ?? searchPaths {
      do {
        return try ConfigurationFile(path: path, bytes: TextFile.read(path, bytesMax: bytesMax))
      } catch {
        // A file that nobody asked for may be absent; one that is there must be readable.
        if error.isMissing, explicit == nil { continue }
        throw CommandFailure(.configuration, "the configuration file \(error)")
      }
    }
    return nil
  }

  init(path: String, bytes: [UInt8]) throws(TextFile.Failure) {
    self.path = path
    do { content = try JSONDocument.parse(bytes) } catch {
      throw TextFile.Failure(path: path, reason: "is not valid JSON: \(error)", code: 0)
    }
  }

  /// The settings as texts, in the order of the file.
  ///
  /// - Throws: exit code 78 for a key that is unknown or there twice, and for a value of a wrong
  /// kind.
  func texts() throws(CommandFailure) -> [(key: String, text: String)] {
    guard case .object(let members) = content else {
      throw CommandFailure(.configuration, "\(path) must hold one JSON object of settings")
    }
    var texts: [(key: String, text: String)] = []
    let known = Settings.all.map(\.name)
    for member in members {
      let key = member.key
      guard known.contains(key) else { throw unknown(key, among: known) }
      guard !texts.contains(where: { $0.key == key }) else {
        throw CommandFailure(.configuration, "\(key) is in \(path) twice")
      }
      texts.append((key, try text(of: member.value, key: key)))
    }
    return texts
  }

  private func text(of value: JSONValue, key: String) throws(CommandFailure) -> String {
    switch value {
    case .string(let text): return text
    case .integer(let number): return String(number)
    case .bool(let flag): return flag ? "true" : "false"
    case .null, .real, .array, .object:
      throw CommandFailure(
        .configuration,
        "\(key) in \(path): the value must be a string, a whole number, or true or false")
    }
  }

  private func unknown(_ key: String, among known: [String]) -> CommandFailure {
    let hint =
      Suggestion.nearest(to: key, in: known).map { "did you mean \"\($0)\"?" }
      ?? "the settings are \(known.joined(separator: ", "))"
    return CommandFailure(
      .configuration, "\"\(key)\" in \(path) is not a setting that edge-sql knows: \(hint)")
  }
}
