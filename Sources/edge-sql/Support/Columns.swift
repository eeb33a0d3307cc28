// Plain columns for people: status, doctor and bench. Results of SQL are drawn by `ResultTable`.

/// Lines of cells under each other, two spaces apart.
struct Columns {
  enum Alignment { case left, right }

  var alignments: [Alignment]
  private var lines: [[String]] = []

  init(_ alignments: Alignment...) { self.alignments = alignments }

  mutating func add(_ cells: String...) { lines.append(cells) }

  /// The text, each line after `indent` and with a line end. Cells must not hold colours.
  func text(indent: String = "") -> String {
    var widths = [Int](repeating: 0, count: alignments.count)
    for line in lines {
      for (column, cell) in line.enumerated() {
        widths[column] = max(widths[column], TerminalWidth.of(cell))
      }
    }
    return lines.map { indent + text(of: $0, widths) + "\n" }.joined()
  }

  private func text(of line: [String], _ widths: [Int]) -> String {
    var text = ""
    for (column, cell) in line.enumerated() {
      let padding = String(repeating: " ", count: widths[column] - TerminalWidth.of(cell))
      switch alignments[column] {
      case .left: text += column == line.count - 1 ? cell : cell + padding
      case .right: text += padding + cell
      }
      if column < line.count - 1 { text += "  " }
    }
    return text
  }
}
