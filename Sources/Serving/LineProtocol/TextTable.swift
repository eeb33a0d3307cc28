// Results as people read them (`.mode table`) and as spreadsheets do (`.mode csv`).
//
// Whole results only: the width of a column depends on all of its rows. Nothing that a terminal
// would obey gets through. Source for CSV: RFC 4180

import Store

/// Draws results as text.
public enum TextTable {
  /// Longer blobs are cut in tables, which say so.
  static let blobBytesShown = 32

  /// A table as the sqlite3 shell draws it, with a line end after each line. Numbers are aligned to
  /// the right.
  public static func table(columns: [String], rows: [[Value]]) -> String {
    let names = columns.map(printable)
    let cells = rows.map { row in row.map(cell) }
    var widths = names.map(\.count)
    for row in cells {
      for (column, text) in row.enumerated() where column < widths.count {
        widths[column] = max(widths[column], text.count)
      }
    }
    let rule = "+" + widths.map { String(repeating: "-", count: $0 + 2) + "+" }.joined() + "\n"
    var text = rule
    text += drawn(zip(names, widths).map { padded($0, to: $1, right: false) })
    text += rule
    for (row, values) in zip(cells, rows) {
      text += drawn(
        widths.indices.map { column in
          guard column < row.count else { return padded("", to: widths[column], right: false) }
          return padded(row[column], to: widths[column], right: isNumber(values[column]))
        })
    }
    return text + (rows.isEmpty ? "" : rule)
  }

  /// CSV with a header line. NULL is an empty field, the empty string a quoted one; blobs are SQL
  /// literals.
  public static func csv(columns: [String], rows: [[Value]]) -> String {
    var text = csvLine(columns.map { quoted($0) })
    for row in rows { text += csvLine(row.map(csvField)) }
    return text
  }

  private static func drawn(_ cells: [String]) -> String {
    "|" + cells.map { " \($0) |" }.joined() + "\n"
  }

  private static func padded(_ text: String, to width: Int, right: Bool) -> String {
    let space = String(repeating: " ", count: max(0, width - text.count))
    return right ? space + text : text + space
  }

  private static func cell(_ value: Value) -> String {
    switch value {
    case .null: return "NULL"
    case .integer(let value): return "\(value)"
    case .real(let value): return real(value)
    case .text(let text): return printable(text)
    case .malformedText(let bytes): return printable(String(decoding: bytes, as: UTF8.self))
    case .blob(let bytes):
      guard bytes.count > blobBytesShown else { return blobLiteral(bytes) }
      return blobLiteral(bytes.prefix(blobBytesShown)) + "… (\(bytes.count) bytes)"
    }
  }

  private static func csvField(_ value: Value) -> String {
    switch value {
    case .null: ""
    case .integer(let value): "\(value)"
    case .real(let value): real(value)
    case .text(let text): quoted(text)
    case .malformedText(let bytes): quoted(String(decoding: bytes, as: UTF8.self))
    case .blob(let bytes): blobLiteral(bytes)
    }
  }

  private static func isNumber(_ value: Value) -> Bool {
    switch value {
    case .integer, .real: true
    case .null, .text, .malformedText, .blob: false
    }
  }

  private static func csvLine(_ fields: [String]) -> String {
    fields.joined(separator: ",") + "\r\n"
  }

  private static func quoted(_ text: String) -> String {
    let special = [UInt8(ascii: "\""), UInt8(ascii: ",")]
    let isPlain = !text.utf8.contains { $0 < 0x20 || special.contains($0) }
    if isPlain, !text.isEmpty { return text }
    let doubled = text.split(separator: "\"", omittingEmptySubsequences: false)
    return "\"" + doubled.joined(separator: "\"\"") + "\""
  }

  /// The text of a REAL, the same as in JSON.
  private static func real(_ value: Double) -> String {
    if value.isNaN { return "NULL" }
    if value.isInfinite { return value > 0 ? "Infinity" : "-Infinity" }
    var output = OutputBytes(capacity: 64)
    output.writeJSONNumber(value)
    return output.string
  }

  private static func blobLiteral(_ bytes: some Sequence<UInt8>) -> String {
    var output = OutputBytes(capacity: 64)
    output.append("x'")
    for byte in bytes { output.writeHex(UInt32(byte), digits: 2) }
    output.append("'")
    return output.string
  }

  /// `text` with control characters written out, so that it stays on its line and changes no
  /// colours.
  private static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where isControl(scalar): result += "\\u{\(String(scalar.value, radix: 16))}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// Control characters of both ranges, and what turns the direction of text around.
  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f..<0xa0, 0x202a...0x202e, 0x2066...0x2069: true
    default: false
    }
  }
}
