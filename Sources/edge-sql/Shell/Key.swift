// Bytes of a terminal as keys.
// Source: the control sequences that xterm sends,
// https://invisible-island.net/xterm/ctlseqs/ctlseqs.html

enum Key: Equatable {
  case text(String)
  case enter, tab, escape
  case backspace, delete
  case left, right, up, down, home, end, wordLeft, wordRight
  /// The letter of a control combination, such as `a`.
  case control(Character)
  case killWordForward
  /// A sequence that means nothing here.
  case unknown
  case endOfInput
}

/// Reads keys from bytes that come one by one.
struct KeyReader {
  /// The next byte; nil at the end of the input.
  var nextByte: () -> UInt8?
  /// Whether more bytes are there already: tells the escape key from the start of a sequence.
  var hasMore: () -> Bool

  func next() -> Key {
    guard let byte = nextByte() else { return .endOfInput }
    switch byte {
    case 0x0d, 0x0a: return .enter
    case 0x09: return .tab
    case 0x7f, 0x08: return .backspace
    case 0x1b: return hasMore() ? sequence() : .escape
    case 0x01...0x1a: return .control(Character(UnicodeScalar(byte + 0x60)))
    case 0x00, 0x1c...0x1f: return .unknown
    default: return character(byte)
    }
  }

  /// A UTF-8 character that begins with `first`; broken ones give a replacement character.
  private func character(_ first: UInt8) -> Key {
    let length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
    var bytes = [first]
    while bytes.count < length, let byte = nextByte() { bytes.append(byte) }
    return .text(String(decoding: bytes, as: UTF8.self))
  }

  private func sequence() -> Key {
    switch nextByte() {
    case UInt8(ascii: "["): return controlSequence()
    case UInt8(ascii: "O"): return named(nextByte() ?? 0, parameters: "")
    case UInt8(ascii: "b"): return .wordLeft
    case UInt8(ascii: "f"): return .wordRight
    case UInt8(ascii: "d"): return .killWordForward
    case 0x7f: return .control("w")
    default: return .unknown
    }
  }

  private func controlSequence() -> Key {
    var parameters = ""
    while let byte = nextByte() {
      if byte >= 0x40, byte <= 0x7e { return named(byte, parameters: parameters) }
      parameters.append(Character(UnicodeScalar(byte)))
      guard parameters.utf8.count < 16 else { break }
    }
    return .unknown
  }

  private func named(_ final: UInt8, parameters: String) -> Key {
    // A second parameter tells of Shift, Alt or Ctrl: with arrows that is a word.
    let isModified = parameters.contains(";")
    switch (final, parameters) {
    case (UInt8(ascii: "A"), _): return .up
    case (UInt8(ascii: "B"), _): return .down
    case (UInt8(ascii: "C"), _): return isModified ? .wordRight : .right
    case (UInt8(ascii: "D"), _): return isModified ? .wordLeft : .left
    case (UInt8(ascii: "H"), _), (UInt8(ascii: "~"), "1"), (UInt8(ascii: "~"), "7"): return .home
    case (UInt8(ascii: "F"), _), (UInt8(ascii: "~"), "4"), (UInt8(ascii: "~"), "8"): return .end
    case (UInt8(ascii: "~"), "3"): return .delete
    default: return .unknown
    }
  }
}
