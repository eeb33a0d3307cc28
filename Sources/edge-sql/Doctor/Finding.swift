// What the doctor says: one line for each thing it looked at.

import Serving

struct Finding: Sendable {
  enum Level: String, Sendable {
    case ok = "OK"
    case warn = "WARN"
    case fail = "FAIL"
  }

  var level: Level
  /// What was looked at, in one or two words.
  var subject: String
  /// What was found.
  var text: String
  /// What to do about it; nil when all is well.
  var remedy: String?

  static func ok(_ subject: String, _ text: String) -> Finding {
    Finding(level: .ok, subject: subject, text: text)
  }

  static func warn(_ subject: String, _ text: String, do remedy: String) -> Finding {
    Finding(level: .warn, subject: subject, text: text, remedy: remedy)
  }

  static func fail(_ subject: String, _ text: String, do remedy: String) -> Finding {
    Finding(level: .fail, subject: subject, text: text, remedy: remedy)
  }

  var json: JSONValue {
    .members([
      ("level", .string(level.rawValue)), ("subject", .string(subject)), ("text", .string(text)),
      ("remedy", remedy.map { .string($0) } ?? .null),
    ])
  }

  /// One line, and below it what to do.
  func line(subjectWidth: Int) -> String {
    let console = Console.output
    let word = level.rawValue + String(repeating: " ", count: 4 - level.rawValue.count)
    let painted =
      switch level {
      case .ok: console.green(word)
      case .warn: console.yellow(word)
      case .fail: console.red(word)
      }
    let padding = String(repeating: " ", count: subjectWidth - subject.count)
    let indent = String(repeating: " ", count: 4 + 2 + subjectWidth + 2)
    let advice = remedy.map { "\n\(indent)\(console.dim("→ " + $0))" } ?? ""
    return "\(painted)  \(subject)\(padding)  \(text)\(advice)\n"
  }
}
