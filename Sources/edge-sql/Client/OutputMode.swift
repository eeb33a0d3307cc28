// How rows are shown: `--mode` of `query` and `.mode` of the shell.

import ArgumentParser
import Serving
import Store

enum OutputMode: String, CaseIterable, ExpressibleByArgument, Sendable {
  case table
  /// The answer lines of the node as they are.
  case json
  case csv
}

extension ReadChoice: ExpressibleByArgument {}
extension LagChoice: ExpressibleByArgument {}

/// Prints answers as they arrive, part by part.
struct ResultPrinter {
  let mode: OutputMode
  /// Of the result that is being printed; nil while no columns have come.
  private var columns: [String]?
  /// What a table has gathered: it is drawn when its last row is known.
  private var rows: [[Value]] = []
  private var isHeaderPrinted = false

  init(mode: OutputMode) { self.mode = mode }

  /// Takes one line of an answer.
  mutating func show(_ part: Answer) {
    guard part.isJSON, mode != .json else {
      Console.output.write(part.line + [UInt8(ascii: "\n")])
      return
    }
    let results = part.results
    for (index, result) in results.enumerated() {
      show(result, isComplete: !part.hasMore || index < results.count - 1)
    }
  }

  private mutating func show(_ result: StatementResult, isComplete: Bool) {
    columns = columns ?? result.columns
    let values = result.rows.map { $0.map(Value.init(wire:)) }
    if mode == .csv, let columns {
      let header = isHeaderPrinted ? TextTable.csv(columns: columns, rows: []) : ""
      let text = TextTable.csv(columns: columns, rows: values)
      Console.output.write(Array(text.utf8.dropFirst(header.utf8.count)))
      isHeaderPrinted = true
    } else {
      rows += values
    }
    guard isComplete else { return }
    if mode == .table { Console.output.write(tableText(result)) }
    self = ResultPrinter(mode: mode)
  }

  private func tableText(_ last: StatementResult) -> String {
    if let columns { return TextTable.table(columns: columns, rows: rows) }
    guard let changes = last.changes else { return "" }
    let rowid = changes > 0 ? last.lastRowid.map { ", last rowid \($0)" } ?? "" : ""
    return (changes == 1 ? "1 row changed" : "\(grouped(changes)) rows changed") + rowid + "\n"
  }
}

extension Value {
  /// A value as answers carry it; what is none becomes its JSON text.
  ///
  /// Source: docs/PROTOCOL.md, "Values"
  init(wire json: JSONValue) {
    switch json {
    case .null: self = .null
    case .bool(let flag): self = .integer(flag ? 1 : 0)
    case .integer(let number): self = .integer(number)
    case .real(let number): self = .real(number)
    case .string(let text): self = .text(text)
    case .array: self = .text(JSONDocument.text(json))
    case .object: self = Self.special(json) ?? .text(JSONDocument.text(json))
    }
  }

  private static func special(_ json: JSONValue) -> Value? {
    if let bytes = json.member("b64").asString.flatMap(Base64Text.decode) { return .blob(bytes) }
    if let bytes = json.member("text_b64").asString.flatMap(Base64Text.decode) {
      return .malformedText(bytes)
    }
    switch json.member("real").asString {
    case "Infinity": return .real(.infinity)
    case "-Infinity": return .real(-.infinity)
    default: return nil
    }
  }
}
