// Logs on standard error: a line of text for people, a line of JSON for machines.

import Glibc
import Logging
import Serving
import Store

/// Writes log lines. Nothing is held back: each line is one write.
struct NodeLogHandler: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  let isJSON: Bool
  /// What takes a progress bar off the line before something is written there.
  private let clearLine = Console.error.hasColour ? ProgressBar.clearLine : ""

  init(level: Logger.Level, format: LogFormat) {
    logLevel = level
    isJSON =
      switch format {
      case .auto: !Console.error.isTerminal
      case .text: false
      case .json: true
      }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let pairs = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
    let time = Self.timestamp(microseconds: wallClockMicroseconds())
    var line: String
    if isJSON {
      var members = [
        JSONValue.Member("time", .string(time)),
        JSONValue.Member("level", .string(event.level.rawValue)),
        JSONValue.Member("message", .string("\(event.message)")),
      ]
      members += pairs.map { JSONValue.Member($0.key, .string("\($0.value)")) }
      line = JSONDocument.text(.object(members))
    } else {
      line = "\(time) \(event.level.rawValue) \(event.message)"
      for (key, value) in pairs { line += " \(key)=\(Self.quoted("\(value)"))" }
    }
    Console.error.write(clearLine + line + "\n")
  }

  private static func quoted(_ text: String) -> String {
    let needsQuotes = text.isEmpty || text.utf8.contains { $0 <= 32 || $0 == UInt8(ascii: "\"") }
    guard needsQuotes else { return text }
    return "\"\(text.replacing("\"", with: "'").replacing("\n", with: " "))\""
  }

  /// RFC 3339 in UTC, with milliseconds.
  static func timestamp(microseconds: UInt64) -> String {
    var seconds = time_t(microseconds / 1_000_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ value: Int, _ count: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    let date =
      "\(digits(Int(parts.tm_year) + 1900, 4))-\(digits(Int(parts.tm_mon) + 1, 2))-\(digits(Int(parts.tm_mday), 2))"
    let clock =
      "\(digits(Int(parts.tm_hour), 2)):\(digits(Int(parts.tm_min), 2)):\(digits(Int(parts.tm_sec), 2))"
    return "\(date)T\(clock).\(digits(Int(microseconds / 1000 % 1000), 3))Z"
  }
}
