// A detour around the argument parser, which takes every word that begins with a hyphen for an
// option.

/// Lets `--args -5 -0.5` be numbers.
enum CommandLineArguments {
  /// In front of a protected word; no word of a command line can begin with it by chance.
  private static let mark = "\u{1}"

  /// Marks the negative numbers behind `--args`: `EdgeSQL.main(CommandLineArguments.protected(…))`.
  static func protected(_ words: some Sequence<String>) -> [String] {
    var isInside = false
    return words.map { word in
      if isInside, isNegativeNumber(word) { return mark + word }
      if word.hasPrefix("-") { isInside = word == "--args" }
      return word
    }
  }

  /// The word as it was typed.
  static func restored(_ word: String) -> String {
    word.hasPrefix(mark) ? String(word.dropFirst(mark.count)) : word
  }

  private static func isNegativeNumber(_ word: String) -> Bool {
    guard word.hasPrefix("-"), let next = word.utf8.dropFirst().first else { return false }
    return (48...57).contains(next) || next == UInt8(ascii: ".")
  }
}
