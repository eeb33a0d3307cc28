// Pages as replication meets them: what SQLite stores, before and after typical changes.

/// Pages of 4 KiB, more of them than fit the first-level cache, and their earlier versions.
struct SamplePages {
  static let pageBytes = 4096
  static let count = 64

  enum Change {
    /// 100 bytes in place: an UPDATE that keeps the length.
    case oneRow
    /// 110 bytes put in the middle, what follows moved: an INSERT.
    case shifted
    /// A page that is new, full of words.
    case newText
  }

  let bases: [[UInt8]]
  let pages: [[UInt8]]
  let hasBase: Bool

  init(_ change: Change) {
    var random = SeededGenerator(seed: 4096)
    switch change {
    case .oneRow:
      bases = (0..<Self.count).map { _ in Self.noise(&random, Self.pageBytes) }
      pages = bases.map { base in
        var page = base
        let start = Int.random(in: 100..<Self.pageBytes - 100, using: &random)
        page.replaceSubrange(start..<start + 100, with: Self.noise(&random, 100))
        return page
      }
      hasBase = true
    case .shifted:
      bases = (0..<Self.count).map { _ in Self.noise(&random, Self.pageBytes) }
      pages = bases.map { base in
        var page = base
        page.insert(contentsOf: Self.noise(&random, 110), at: Self.pageBytes / 2)
        return Array(page.prefix(Self.pageBytes))
      }
      hasBase = true
    case .newText:
      bases = []
      pages = (0..<Self.count).map { _ in Self.text(&random) }
      hasBase = false
    }
  }

  static func noise(_ random: inout SeededGenerator, _ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  private static let words = [
    "order", "customer", "street", "number", "the", "of", "and", "delivered", "amount", "paid",
    "pending", "invoice", "shipment", "region", "north", "south", "account", "product", "blue",
    "large", "return", "service", "with", "without", "before", "after", "morning", "evening",
  ]

  private static func text(_ random: inout SeededGenerator) -> [UInt8] {
    var page: [UInt8] = []
    while page.count < pageBytes {
      let word = words.randomElement(using: &random) ?? ""
      page += "\(word) \(UInt16.random(in: 0...999, using: &random)) ".utf8
    }
    return Array(page.prefix(pageBytes))
  }
}
