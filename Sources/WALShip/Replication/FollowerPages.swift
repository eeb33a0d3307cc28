// What a follower said of its pages, so that it is sent those that differ and no others.

/// The pages of a follower whose position does not tell what it holds.
public struct FollowerPages: Equatable, Sendable {
  /// What the follower's checksums are measured against.
  public enum Scope: Equatable, Sendable {
    /// It tells all pages.
    case all
    /// It tells those that it changed after this transaction; up to there both histories are one.
    case since(TXID)
  }

  public let scope: Scope
  /// By page, from page 1 on; used for `.all`.
  private var all: [UInt64] = []
  /// Used for `.since`.
  private var some: [Pgno: UInt64] = [:]

  /// Pages of the largest database, at 4 TiB of 64 KiB pages.
  private static let countMax = 1 << 26

  public init(_ scope: Scope) { self.scope = scope }

  /// Adds checksums in the order of their pages.
  public mutating func add(_ part: ShipPageChecksums) throws(ShipProtocolError) {
    guard all.count + some.count + part.checksums.count <= Self.countMax else {
      throw .malformed("too many checksums")
    }
    switch scope {
    case .all:
      guard part.first.index == all.count else { throw .unexpected("checksums out of order") }
      all += part.checksums
    case .since:
      guard part.first.rawValue <= UInt32.max - UInt32(part.checksums.count) else {
        throw .malformed("there is no page so high")
      }
      for (offset, checksum) in part.checksums.enumerated() {
        some[Pgno(part.first.rawValue + UInt32(offset))] = checksum
      }
    }
  }

  /// Whether the follower must get a page.
  public func lacks(_ pgno: Pgno, _ entry: PageMapEntry) -> Bool {
    switch scope {
    case .all:
      entry.checksum != (pgno.index < all.count ? all[pgno.index] : 0)
    case .since(let common):
      if let told = some[pgno] { told != entry.checksum } else { entry.txid > common }
    }
  }
}
