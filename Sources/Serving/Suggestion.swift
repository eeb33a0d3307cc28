// "Did you mean": the nearest of a few known words.

/// Finds the word that was probably meant.
public enum Suggestion {
  /// Longer words are not compared: they are no slip of the finger, and may come from anyone.
  static let bytesMax = 64

  /// The candidate that `word` is most likely a misspelling of; nil when none is near.
  public static func nearest(to word: String, in candidates: some Sequence<String>) -> String? {
    guard word.utf8.count <= bytesMax else { return nil }
    let limit = max(1, word.utf8.count / 3)
    let near = candidates.map { ($0, distance(normal(word), normal($0))) }.filter { $0.1 <= limit }
    return near.min { $0.1 < $1.1 }?.0
  }

  /// A hyphen for an underscore, or a capital, is no misspelling worth counting.
  private static func normal(_ word: String) -> [UInt8] {
    word.lowercased().utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : $0 }
  }

  /// The number of edits between two words; swapping two neighbours is one edit.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
    var twoBack = [Int]()
    var previous = Array(0...b.count)
    for i in 1...a.count {
      var row = [i]
      for j in 1...b.count {
        let substitution = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
        var best = min(previous[j] + 1, row[j - 1] + 1, substitution)
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
          best = min(best, twoBack[j - 2] + 1)
        }
        row.append(best)
      }
      (twoBack, previous) = (previous, row)
    }
    return previous[b.count]
  }
}
