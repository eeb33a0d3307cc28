// The commands of the line protocol: lines that begin with a point.

import NIOCore
import Store
import WALShip

extension LineSession {
  private static let commands: [(name: String, usage: String, meaning: String)] = [
    ("help", ".help", "this text"),
    ("ping", ".ping", "whether the node answers"),
    ("status", ".status", "how the node is doing"),
    ("token", ".token", "a token of what this connection has seen"),
    ("pages", ".pages SINCE AFTER|final [THROUGH]", "pages of the file, for `edge-sql backup`"),
    ("use", ".use NAME", "work with another database"),
    ("databases", ".databases", "the databases of this node"),
    ("tables", ".tables", "the tables and views of the database"),
    ("schema", ".schema [NAME]", "the SQL of all tables, or of one"),
    ("mode", ".mode json|table|csv", "how results are written"),
    ("ints", ".ints number|text", "how integers are written in JSON"),
    ("timeout", ".timeout MS", "the time limit of statements, in milliseconds"),
    ("scrub", ".scrub", "check all pages now, and repair what is damaged"),
    ("quit", ".quit", "end the connection"),
  ]

  /// The read that a command stands for, if it is one.
  static func schemaQuery(_ name: String, _ arguments: [String]) -> StatementRequest? {
    let own = "name NOT GLOB 'sqlite_*' AND name NOT GLOB '_edge_*'"
    switch (name, arguments.count) {
    case ("tables", 0):
      return StatementRequest(
        sql: SQLText(
          "SELECT name FROM sqlite_schema WHERE type IN ('table','view') AND \(own) ORDER BY name"))
    case ("schema", 0):
      return StatementRequest(
        sql: SQLText(
          "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND \(own) ORDER BY tbl_name, rowid")
      )
    case ("schema", 1):
      return StatementRequest(
        sql: SQLText(
          "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND \(own) "
            + "AND (name = ?1 COLLATE NOCASE OR tbl_name = ?1 COLLATE NOCASE) ORDER BY rowid"),
        arguments: .positional([.text(arguments[0])]))
    default: return nil
    }
  }

  func command(_ name: String, _ arguments: [String], _ head: AnswerHead) {
    switch (name, arguments.count) {
    case ("help", 0): answerHelp(head)
    case ("ping", 0): answer(head, "pong") { $0.member("pong", true) }
    case ("status", 0): answerStatus(head)
    case ("token", 0):
      let token = seen ?? node.tracker.position.token
      answer(head, "\(token)") { $0.token(token) }
    case ("pages", 2), ("pages", 3): sendPages(arguments, head)
    case ("use", 1):
      guard arguments[0] == node.databaseName else {
        return answer(head, error: .unknownDatabase(arguments[0]))
      }
      answerOK(head)
    case ("databases", 0):
      let name = node.databaseName
      answer(head, name) { writer in
        writer.beginArray("databases")
        writer.element(name)
        writer.endArray()
      }
    case ("scrub", 0): startScrub(head)
    case ("mode", 1): setMode(arguments[0], head)
    case ("ints", 1): setIntegers(arguments[0], head)
    case ("timeout", 1): setTimeout(arguments[0], head)
    case ("quit", 0):
      answerOK(head)
      close()
    default: answer(head, error: Self.misused(name))
    }
  }

  static func misused(_ name: String) -> RequestError {
    if let known = commands.first(where: { $0.name == name }) {
      return RequestError(.badRequest, "the command is used like this: \(known.usage)")
    }
    let near = Suggestion.nearest(to: name, in: commands.lazy.map(\.name))
    let hint = near.map { "did you mean .\($0)?" } ?? ".help lists the commands"
    return RequestError(.badRequest, "there is no command .\(name.prefix(64)); \(hint)")
  }

  /// Answers a command.
  ///
  /// - Parameter text: what people get.
  private func answer(
    _ head: AnswerHead, _ text: String, _ members: (inout ResponseWriter) -> Void
  ) {
    guard mode == .json else { return writer.plain(text + "\n") }
    writer.beginLine(id: head.id)
    members(&writer)
    endLine(head, token: nil)
  }

  private func answerHelp(_ head: AnswerHead) {
    let width = Self.commands.map(\.usage.count).max() ?? 0
    let lines = Self.commands.map { command in
      command.usage + String(repeating: " ", count: width - command.usage.count + 2)
        + command.meaning
    }
    let text = (["One request a line: SQL, a JSON object or array, or a command:"] + lines)
      .joined(separator: "\n")
    answer(head, text) { writer in
      writer.beginArray("help")
      for line in lines { writer.element(line) }
      writer.endArray()
    }
  }

  /// A status is JSON in every mode: it is for programs, and `edge-sql status` draws it for people.
  private func answerStatus(_ head: AnswerHead) {
    writer.beginLine(id: head.id)
    node.status().write(into: &writer)
    endLine(head, token: nil)
  }

  private func setMode(_ name: String, _ head: AnswerHead) {
    guard let mode = LineMode(rawValue: name) else {
      return answer(head, error: Self.misused("mode"))
    }
    self.mode = mode
    answerOK(head)
  }

  private func setIntegers(_ name: String, _ head: AnswerHead) {
    switch name {
    case "number": writer.integers = .number
    case "text": writer.integers = .text
    default: return answer(head, error: Self.misused("ints"))
    }
    answerOK(head)
  }

  private func setTimeout(_ text: String, _ head: AnswerHead) {
    guard let milliseconds = Int(text), milliseconds > 0 else {
      return answer(head, error: Self.misused("timeout"))
    }
    timeoutMilliseconds = milliseconds
    answerOK(head)
  }
}
