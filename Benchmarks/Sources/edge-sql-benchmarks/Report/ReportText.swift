// Figures for people, under each other, and for programs, as JSON.

import Serving

extension GroupReport {
  /// The figures as a table with a head of its own.
  func text(nameWidth: Int) -> String {
    var lines = ["\(name): \(subject)"]
    lines.append(
      Self.line(
        ["", "edge-sql", "floor", "ratio", "min … max", "reach", "floor is"], nameWidth: nameWidth)
    )
    for figure in figures { lines.append(Self.line(Self.cells(figure), nameWidth: nameWidth)) }
    lines += notes.map { "  \($0)" }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func cells(_ figure: Figure) -> [String] {
    let unit = figure.edge.unit
    let edge = Number.text(figure.edge.spread.median, unit)
    let met = figure.isMet.map { $0 ? " met" : " MISSED" } ?? ""
    let reach = (figure.target.map { $0.text(unit) } ?? "") + met
    guard let floor = figure.floor else {
      let spread = figure.edge.spread
      let ends = "\(Number.text(spread.least, .count))… \(Number.text(spread.most, .count))"
      return [figure.name, edge, "", "", ends, reach, ""]
    }
    let arrow = unit.isHigherBetter ? "↑" : "↓"
    return [
      figure.name, edge, Number.text(floor.spread.median, unit),
      "\(Number.ratio(figure.ratio.median)) \(arrow)",
      "\(Number.ratio(figure.ratio.least)) … \(Number.ratio(figure.ratio.most))", reach, floor.name,
    ]
  }

  private static func line(_ cells: [String], nameWidth: Int) -> String {
    let widths = [nameWidth, 13, 13, 9, 17, 20]
    var line = "  " + padded(cells[0], to: nameWidth, left: true)
    for column in 1...5 { line += "  " + padded(cells[column], to: widths[column], left: false) }
    return line + "  " + cells[6]
  }

  private static func padded(_ text: String, to width: Int, left: Bool) -> String {
    let padding = String(repeating: " ", count: max(0, width - text.count))
    return left ? text + padding : padding + text
  }

  var json: JSONValue {
    .members([
      ("name", .string(name)), ("subject", .string(subject)),
      ("figures", .array(figures.map(\.json))), ("notes", .array(notes.map(JSONValue.string))),
    ])
  }
}

extension Figure {
  fileprivate var json: JSONValue {
    .members([
      ("name", .string(name)), ("unit", .string(edge.unit.rawValue)),
      ("better", .string(edge.unit.isHigherBetter ? "higher" : "lower")), ("edge_sql", edge.json),
      ("floor_name", floor.map { .string($0.name) } ?? .null), ("floor", floor?.json ?? .null),
      ("ratio", floor == nil ? .null : ratioJSON),
      ("target", target.map { .string($0.text(edge.unit)) } ?? .null),
      ("met", isMet.map(JSONValue.bool) ?? .null),
    ])
  }

  private var ratioJSON: JSONValue {
    .members([
      ("min", .real(ratio.least)), ("median", .real(ratio.median)), ("max", .real(ratio.most)),
    ])
  }
}

extension Target {
  fileprivate func text(_ unit: Unit) -> String {
    switch self {
    case .ratioAtLeast(let least): "≥ × \(Number.ratio(least))"
    case .ratioAtMost(let most): "≤ × \(Number.ratio(most))"
    case .atLeast(let least): "≥ \(Number.text(least, unit))"
    case .atMost(let most): "≤ \(Number.text(most, unit))"
    case .aboveFloorAtMost(let most): "≤ floor + \(Number.text(most, unit))"
    }
  }
}

extension Series {
  fileprivate var json: JSONValue { .array(values.map(JSONValue.real)) }
}

/// Numbers with as many digits as mean something.
enum Number {
  static func text(_ value: Double, _ unit: Unit) -> String {
    "\(digits(value)) \(unit.rawValue)"
  }

  static func ratio(_ value: Double) -> String { digits(value, least: 2) }

  /// - Parameter least: decimals of numbers below ten.
  private static func digits(_ value: Double, least decimals: Int = 1) -> String {
    guard value.isFinite else { return "none" }
    switch abs(value) {
    case ..<1: return fixed(value, max(decimals, 2))
    case ..<10: return fixed(value, decimals)
    case ..<100: return fixed(value, 1)
    default: return grouped(Int(value.rounded()))
    }
  }

  private static func fixed(_ value: Double, _ decimals: Int) -> String {
    let scale = decimals == 1 ? 10 : decimals == 2 ? 100 : 1000
    let scaled = Int((value * Double(scale)).rounded())
    let rest = String(abs(scaled) % scale)
    let zeros = String(repeating: "0", count: decimals - rest.count)
    return "\(scaled < 0 ? "-" : "")\(abs(scaled) / scale).\(zeros)\(rest)"
  }

  private static func grouped(_ value: Int) -> String {
    var text = ""
    for (index, digit) in String(value).reversed().enumerated() {
      if index > 0, index % 3 == 0 { text = "," + text }
      text = String(digit) + text
    }
    return text
  }
}
