// Which of a node's databases a replica takes: names and globs.

/// A list of patterns in which `*` stands for any run of characters and `?` for any one.
public struct DatabaseFilter: Equatable, Sendable, CustomStringConvertible {
  public let patterns: [String]
  public static let all = DatabaseFilter(unchecked: ["*"])
  public static let patternsMax = 256
  public static let patternBytesMax = 64
  public static let rule = "names and globs of a-z, 0-9, _, -, * and ?, with commas"

  private init(unchecked patterns: [String]) { self.patterns = patterns }

  /// - Returns: nil without a pattern, or when one of them could match no name.
  public init?(_ patterns: [String]) {
    guard !patterns.isEmpty, patterns.count <= Self.patternsMax else { return nil }
    for pattern in patterns {
      guard !pattern.isEmpty, pattern.utf8.count <= Self.patternBytesMax,
        pattern.utf8.allSatisfy(Self.isAllowed)
      else { return nil }
    }
    self.patterns = patterns
  }

  /// Reads `eu-*,users`.
  public init?(_ text: String) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    self.init(parts.map { String($0.trimmingSpaces) })
  }

  public var description: String { patterns.joined(separator: ",") }

  public func matches(_ name: String) -> Bool {
    patterns.contains { Self.matches(Array($0.utf8), Array(name.utf8)) }
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "?"):
      true
    default: false
    }
  }

  /// Goes back to the last star alone, so the time is bounded by the product of both lengths.
  private static func matches(_ pattern: [UInt8], _ name: [UInt8]) -> Bool {
    var (at, from) = (0, 0)
    var star: (pattern: Int, name: Int)?
    while from < name.count {
      if at < pattern.count, pattern[at] == UInt8(ascii: "*") {
        star = (at, from)
        at += 1
      } else if at < pattern.count, pattern[at] == UInt8(ascii: "?") || pattern[at] == name[from] {
        at += 1
        from += 1
      } else if let last = star {
        at = last.pattern + 1
        from = last.name + 1
        star = (last.pattern, from)
      } else {
        return false
      }
    }
    return pattern[at...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    let front = drop { $0 == " " }
    return front.prefix(front.count - front.reversed().prefix { $0 == " " }.count)
  }
}
