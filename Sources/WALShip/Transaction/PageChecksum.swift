// The checksum of a page, and of a database as the exclusive-or of those of its pages. Nodes with
// the same checksum at the same position hold the same bytes, a replica's own marks aside.

/// Where a replica writes values of its own into page 1: bytes that no checksum counts.
///
/// Source: https://www.sqlite.org/fileformat2.html#the_database_header
public enum ReplicaStamp {
  /// The file format write version: 3 on a replica, so that SQLite refuses to write.
  public static let writeVersionOffset = 18
  /// The position of the replica, in bytes that SQLite reserves for expansion.
  public static let range = 72..<92
}

/// The XXH64 of a page, seeded with its number, so that equal pages in swapped places differ.
///
/// In page 1, the bytes of `ReplicaStamp` count as 0.
@inlinable
public func pageChecksum(_ page: UnsafeRawBufferPointer, pgno: Pgno) -> UInt64 {
  let seed = UInt64(pgno.rawValue)
  guard pgno.rawValue == 1 else { return xxh64(page, seed: seed) }
  return firstPageChecksum(page, seed: seed)
}

/// Hashes a copy of the three stripes that hold the replica's bytes, then the rest in place.
@usableFromInline
func firstPageChecksum(_ page: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
  let maskedBytes = 96
  precondition(page.count >= maskedBytes, "page 1 holds the 100 bytes of the database header")
  guard let start = page.baseAddress else { return 0 }
  var state = XXH64(seed: seed)
  withUnsafeTemporaryAllocation(byteCount: maskedBytes, alignment: 8) { copy in
    copy.copyMemory(from: UnsafeRawBufferPointer(start: start, count: maskedBytes))
    copy[ReplicaStamp.writeVersionOffset] = 0
    for offset in ReplicaStamp.range { copy[offset] = 0 }
    if let masked = copy.baseAddress { state.add(masked, stripes: maskedBytes / 32) }
  }
  state.add(start + maskedBytes, stripes: (page.count - maskedBytes) >> 5)
  return XXH64.finish(
    state.merged &+ UInt64(page.count), tail: start + (page.count & ~31), count: page.count & 31)
}

extension DatabaseChecksum {
  /// Adds a page that is not counted yet, or removes one that is.
  @inlinable
  public mutating func toggle(_ pageChecksum: UInt64) {
    rawValue ^= pageChecksum
  }
}
