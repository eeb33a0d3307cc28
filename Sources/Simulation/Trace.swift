// What happened, as a number that two runs of a seed must share, and as text for people.

/// The course of one simulation.
struct Trace {
  private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  private(set) var lines: [String] = []
  let prints: Bool
  /// How many of the last lines a failure shows.
  static let keptMax = 60

  init(prints: Bool) { self.prints = prints }

  /// Notes something that a seed must bring about again.
  mutating func note(_ now: UInt64, _ text: String) {
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    hash = (hash ^ now) &* 0x100_0000_01b3
    let line = "\(now / 1_000_000) ms  \(text)"
    if prints { print(line) }
    lines.append(line)
    if lines.count > 4 * Self.keptMax { lines.removeFirst(lines.count - Self.keptMax) }
  }
}

/// A promise that was broken.
struct Violation: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
