// The line that is being edited: text and cursor, nothing of terminals.

/// What the editing keys do to a line. Positions count characters as people see them.
struct EditBuffer: Equatable {
  private(set) var characters: [Character] = []
  /// In front of which character the cursor stands.
  private(set) var cursor = 0
  /// What the last kill took, for Ctrl-Y.
  private(set) var killed: [Character] = []

  var text: String { String(characters) }
  var isEmpty: Bool { characters.isEmpty }

  mutating func set(_ text: String) {
    characters = Array(text)
    cursor = characters.count
  }

  /// Inserts text at the cursor; a combining mark joins the character in front of it.
  mutating func insert(_ text: String) {
    let head = String(characters[..<cursor]) + text
    let tail = characters[cursor...]
    let start = Array(head)
    characters = start + tail
    cursor = start.count
  }

  mutating func moveLeft() { cursor = max(0, cursor - 1) }
  mutating func moveRight() { cursor = min(characters.count, cursor + 1) }
  mutating func moveHome() { cursor = 0 }
  mutating func moveEnd() { cursor = characters.count }
  mutating func moveWordLeft() { cursor = wordStart }
  mutating func moveWordRight() { cursor = wordEnd }

  mutating func deleteBackward() {
    guard cursor > 0 else { return }
    cursor -= 1
    characters.remove(at: cursor)
  }

  mutating func deleteForward() {
    guard cursor < characters.count else { return }
    characters.remove(at: cursor)
  }

  mutating func killToEnd() { kill(cursor..<characters.count) }
  mutating func killToStart() { kill(0..<cursor) }
  mutating func killWordForward() { kill(cursor..<wordEnd) }

  /// Ctrl-W takes everything back to white space, as shells do.
  mutating func killWordBackward() {
    var start = cursor
    while start > 0, characters[start - 1].isWhitespace { start -= 1 }
    while start > 0, !characters[start - 1].isWhitespace { start -= 1 }
    kill(start..<cursor)
  }

  mutating func yank() { insert(String(killed)) }

  /// Swaps the characters around the cursor.
  mutating func transpose() {
    guard cursor > 0, characters.count > 1 else { return }
    let right = min(cursor, characters.count - 1)
    characters.swapAt(right - 1, right)
    cursor = right + 1
  }

  private mutating func kill(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    killed = Array(characters[range])
    characters.removeSubrange(range)
    cursor = range.lowerBound
  }

  private var wordStart: Int {
    var at = cursor
    while at > 0, !Self.isWord(characters[at - 1]) { at -= 1 }
    while at > 0, Self.isWord(characters[at - 1]) { at -= 1 }
    return at
  }

  private var wordEnd: Int {
    var at = cursor
    while at < characters.count, !Self.isWord(characters[at]) { at += 1 }
    while at < characters.count, Self.isWord(characters[at]) { at += 1 }
    return at
  }

  private static func isWord(_ character: Character) -> Bool {
    character.isLetter || character.isNumber || character == "_"
  }
}
