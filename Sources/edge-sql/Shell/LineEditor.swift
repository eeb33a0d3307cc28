// Reads a line with editing, history and search. It draws over its own rows and leaves the rest
// alone.

/// The line editor of the shell.
final class LineEditor {
  enum Result: Equatable {
    case line(String)
    /// Ctrl-C: the input so far is thrown away.
    case interrupted
    /// Ctrl-D on an empty line, or the terminal is gone.
    case endOfInput
  }

  private let terminal: Terminal
  private let history: History
  private let completions: (String) -> [String]
  private var buffer = EditBuffer()
  /// The row of the cursor below the first row of the line.
  private var cursorRow = 0
  /// Which entry is shown; the number of entries stands for the line that is being typed.
  private var historyIndex = 0
  private var typed = ""

  init(terminal: Terminal, history: History, completions: @escaping (String) -> [String]) {
    self.terminal = terminal
    self.history = history
    self.completions = completions
  }

  /// - Parameter prompt: must not hold colours.
  func readLine(prompt: String) -> Result {
    guard terminal.enterRawMode() else { return .endOfInput }
    defer { terminal.leaveRawMode() }
    buffer.set("")
    cursorRow = 0
    historyIndex = history.entries.count
    draw(prompt)
    let keys = terminal.keys
    while true {
      var key = keys.next()
      if key == .control("r") { key = search(keys, prompt) }
      switch key {
      case .enter:
        finish(prompt)
        return .line(buffer.text)
      case .control("c"):
        finish(prompt, mark: "^C")
        return .interrupted
      case .control("d") where buffer.isEmpty, .endOfInput:
        finish(prompt)
        return .endOfInput
      case .control("l"):
        terminal.write("\u{1b}[H\u{1b}[2J")
        cursorRow = 0
      default: edit(key)
      }
      draw(prompt)
    }
  }

  private func edit(_ key: Key) {
    switch key {
    case .text(let text): buffer.insert(text)
    case .backspace: buffer.deleteBackward()
    case .delete, .control("d"): buffer.deleteForward()
    case .left, .control("b"): buffer.moveLeft()
    case .right, .control("f"): buffer.moveRight()
    case .home, .control("a"): buffer.moveHome()
    case .end, .control("e"): buffer.moveEnd()
    case .wordLeft: buffer.moveWordLeft()
    case .wordRight: buffer.moveWordRight()
    case .control("k"): buffer.killToEnd()
    case .control("u"): buffer.killToStart()
    case .control("w"): buffer.killWordBackward()
    case .killWordForward: buffer.killWordForward()
    case .control("y"): buffer.yank()
    case .control("t"): buffer.transpose()
    case .up, .control("p"): recall(historyIndex - 1)
    case .down, .control("n"): recall(historyIndex + 1)
    case .tab: complete()
    case .enter, .escape, .control, .unknown, .endOfInput: break
    }
  }

  private func recall(_ index: Int) {
    guard index >= 0, index <= history.entries.count else { return }
    if historyIndex == history.entries.count { typed = buffer.text }
    historyIndex = index
    buffer.set(index == history.entries.count ? typed : history.entries[index])
  }

  /// Completes what stands in front of the cursor, as far as all candidates agree.
  private func complete() {
    let head = String(buffer.characters[..<buffer.cursor])
    let candidates = completions(head)
    guard var common = candidates.first else { return }
    for candidate in candidates { common = common.commonPrefix(candidate) }
    guard common.count > head.count, common.hasPrefix(head) else { return }
    buffer.insert(String(common.dropFirst(head.count)))
  }

  /// Ctrl-R: shows the newest entry that holds what is typed; Ctrl-R again goes further back.
  ///
  /// - Returns: the key that ended the search, which is then done to the line that was found.
  private func search(_ keys: KeyReader, _ prompt: String) -> Key {
    let before = buffer.text
    var wanted = ""
    var index = history.entries.count
    while true {
      let mark = wanted.isEmpty || buffer.text.contains(wanted) ? "" : "failing "
      draw("(\(mark)search)`\(wanted)': ")
      let key = keys.next()
      switch key {
      case .text(let text):
        wanted += text
        index = find(wanted, from: min(index, history.entries.count - 1)) ?? index
      case .backspace:
        wanted = String(wanted.dropLast())
        index = find(wanted, from: history.entries.count - 1) ?? index
      case .control("r"): index = find(wanted, from: index - 1) ?? index
      case .control("g"), .control("c"), .escape:
        buffer.set(before)
        return .unknown
      default:
        historyIndex = index
        return key
      }
    }
  }

  private func find(_ wanted: String, from start: Int) -> Int? {
    guard !wanted.isEmpty, start >= 0 else { return nil }
    guard let index = history.entries[...start].lastIndex(where: { $0.contains(wanted) }) else {
      return nil
    }
    buffer.set(history.entries[index])
    return index
  }

  /// Draws the line again from its first row.
  private func draw(_ prompt: String) {
    let layout = LineLayout(prompt: prompt, buffer: buffer, columns: terminal.columns)
    var output = "\u{1b}[?25l" + Self.up(cursorRow) + "\r\u{1b}[J" + layout.text
    output += Self.up(layout.end.row - layout.cursor.row) + "\r"
    if layout.cursor.column > 0 { output += "\u{1b}[\(layout.cursor.column)C" }
    terminal.write(output + "\u{1b}[?25h")
    cursorRow = layout.cursor.row
  }

  /// Leaves the cursor on a fresh row below the line.
  private func finish(_ prompt: String, mark: String = "") {
    buffer.moveEnd()
    draw(prompt)
    terminal.write(mark + "\n")
    cursorRow = 0
  }

  private static func up(_ rows: Int) -> String { rows > 0 ? "\u{1b}[\(rows)A" : "" }
}

extension String {
  fileprivate func commonPrefix(_ other: String) -> String {
    String(zip(self, other).prefix { $0 == $1 }.map(\.0))
  }
}
