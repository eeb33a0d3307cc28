// Where the characters of a prompt and a line come to stand on a terminal.

/// A text that wraps at the last column.
struct LineLayout: Equatable {
  struct Point: Equatable {
    var row = 0
    var column = 0
  }

  /// What is written: control characters are shown as symbols.
  private(set) var text = ""
  /// Behind the last character.
  private(set) var end = Point()
  /// Where the cursor belongs.
  private(set) var cursor = Point()
  private let columns: Int

  init(prompt: String, buffer: EditBuffer, columns: Int) {
    self.columns = columns
    for character in prompt { append(character) }
    for (index, character) in buffer.characters.enumerated() {
      if index == buffer.cursor { cursor = place(TerminalWidth.of(Self.visible(character))) }
      append(Self.visible(character))
    }
    // A terminal keeps the cursor in the last column until more is written: write the line end
    // itself.
    if end.column == columns {
      text += "\n"
      end = Point(row: end.row + 1, column: 0)
    }
    if buffer.cursor == buffer.characters.count { cursor = end }
  }

  private mutating func append(_ character: Character) {
    let width = TerminalWidth.of(character)
    end = place(width)
    end.column += width
    text.append(character)
  }

  /// Where a character of this width begins.
  private func place(_ width: Int) -> Point {
    end.column + width > columns ? Point(row: end.row + 1, column: 0) : end
  }

  private static func visible(_ character: Character) -> Character {
    guard let value = character.unicodeScalars.first?.value, value < 32 else { return character }
    return Character(UnicodeScalar(0x2400 + value) ?? " ")
  }
}
