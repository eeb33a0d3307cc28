// The statements that were typed before, in a file in the home directory.

import Glibc
import Store

/// Oldest first. Every entry is one line of the file; line ends and backslashes in it are escaped.
final class History {
  static let entriesMax = 1000
  private static let bytesMax = 16 << 20

  private(set) var entries: [String] = []
  private let path: String?

  /// - Parameter path: nil keeps the history in memory only.
  init(path: String?) {
    self.path = path
    guard let path, let bytes = try? TextFile.read(path, bytesMax: Self.bytesMax) else { return }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    entries = lines.suffix(Self.entriesMax).map { Self.unescape($0) }
    if lines.count > 2 * Self.entriesMax { rewrite() }
  }

  /// `~/.edge-sql_history`, unless `EDGE_SQL_HISTORY` names another file; empty switches it off.
  static var defaultPath: String? {
    if let path = environment("EDGE_SQL_HISTORY") { return path.isEmpty ? nil : path }
    return environment("HOME").map { $0 + "/.edge-sql_history" }
  }

  /// Adds an entry that is not the same as the last one. A history that cannot be written stays in
  /// memory.
  func add(_ entry: String) {
    guard !entry.isEmpty, entry != entries.last else { return }
    entries.append(entry)
    if entries.count > Self.entriesMax { entries.removeFirst() }
    append(entry)
  }

  private func append(_ entry: String) {
    guard let path else { return }
    // Only for the user: statements may hold secrets.
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return }
    let line = Array((Self.escape(entry) + "\n").utf8)
    _ = write(descriptor, line, line.count)
    close(descriptor)
  }

  /// Shortens a file that has grown, by writing a new one in its place.
  private func rewrite() {
    guard let path else { return }
    let bytes = Array(entries.map { Self.escape($0) + "\n" }.joined().utf8)
    // A history that cannot be kept is no reason to disturb anybody.
    try? Disk.replace(path, with: bytes)
  }

  static func escape(_ entry: String) -> String {
    var text = ""
    for character in entry {
      switch character {
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r", "\r\n": text += "\\r"
      default: text.append(character)
      }
    }
    return text
  }

  static func unescape(_ line: some StringProtocol) -> String {
    var text = ""
    var isEscaped = false
    for character in line {
      if isEscaped {
        text.append(character == "n" ? "\n" : character == "r" ? "\r" : character)
        isEscaped = false
      } else if character == "\\" {
        isEscaped = true
      } else {
        text.append(character)
      }
    }
    return text
  }
}
