// The numbers of the system, each with a type of its own, so that two of them are never swapped.

/// A page number. The first page of a database is 1.
///
/// Source: https://www.sqlite.org/fileformat2.html#pages
public struct Pgno: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt32
  @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public static func < (a: Pgno, b: Pgno) -> Bool { a.rawValue < b.rawValue }
  /// The position of this page in arrays that begin with page 1.
  @inlinable public var index: Int { Int(rawValue) - 1 }
  public var description: String { "\(rawValue)" }
}

/// The size of a database page in bytes: a power of two between 512 and 65536.
public struct PageSize: Hashable, Sendable, CustomStringConvertible {
  public let bytes: Int

  /// - Returns: nil when `bytes` is no page size that SQLite knows.
  @inlinable public init?(_ bytes: Int) {
    guard bytes >= 512, bytes <= 65536, bytes & (bytes - 1) == 0 else { return nil }
    self.bytes = bytes
  }

  /// The page that holds the byte at 1 GiB, where SQLite keeps its file locks: never written, never
  /// shipped.
  ///
  /// Source: https://www.sqlite.org/fileformat2.html#the_lock_byte_page
  @inlinable public var lockPage: Pgno { Pgno(UInt32(0x4000_0000 / bytes) + 1) }

  public var description: String { "\(bytes)" }
}

/// The number of a committed transaction: one more for each commit.
public struct TXID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public static func < (a: TXID, b: TXID) -> Bool { a.rawValue < b.rawValue }
  @inlinable public var next: TXID { TXID(rawValue + 1) }
  public static let zero = TXID(0)
  /// No database ever gets here. What comes from outside and is higher is refused.
  public static let max = TXID((1 << 40) - 1)
  public var description: String { "\(rawValue)" }
}

/// A line of history. It is new on promotion, on restore, and on any start that cannot prove that
/// it continues.
public struct Epoch: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt32
  @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public static func < (a: Epoch, b: Epoch) -> Bool { a.rawValue < b.rawValue }
  /// No database gets so far; a higher one in a message is a mistake, or worse.
  public static let max = Epoch(1 << 24)
  public var description: String { "\(rawValue)" }
}

/// The identity of a database, drawn at random when a primary first adopts it; 128 bits.
public struct DatabaseID: Hashable, Sendable, CustomStringConvertible {
  public var high: UInt64
  public var low: UInt64
  @inlinable public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
  public static let zero = DatabaseID(high: 0, low: 0)
  public static func random() -> DatabaseID {
    DatabaseID(high: Chance.number(in: 1 ... .max), low: Chance.number(in: 0 ... .max))
  }

  /// What a replica knows that lost its page map: the first digits, which are in its file.
  public init(short: UInt32) { self.init(high: UInt64(short) << 32, low: 0) }

  /// Whether this is the database that `other` names, as a whole or by its first digits.
  public func isNamed(by other: DatabaseID) -> Bool {
    self == other || other == DatabaseID(short: short)
  }

  /// The first eight hexadecimal digits: what tokens carry.
  public var short: UInt32 { UInt32(truncatingIfNeeded: high >> 32) }
  public var description: String { hex(high, digits: 16) + hex(low, digits: 16) }

  /// Reads the 32 hexadecimal digits that `description` writes.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }
}

/// The exclusive-or of the checksums of all pages of a database, the lock page left out.
public struct DatabaseChecksum: Hashable, Sendable, CustomStringConvertible {
  public var rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let empty = DatabaseChecksum(0)
  public var description: String { hex(rawValue, digits: 16) }
}

/// Where a node stands: which database, which history, after which transaction, and what the pages
/// then add up to.
public struct Position: Hashable, Sendable, CustomStringConvertible {
  public var database: DatabaseID
  public var epoch: Epoch
  public var txid: TXID
  public var checksum: DatabaseChecksum

  public init(database: DatabaseID, epoch: Epoch, txid: TXID, checksum: DatabaseChecksum) {
    self.database = database
    self.epoch = epoch
    self.txid = txid
    self.checksum = checksum
  }

  public static let none = Position(
    database: .zero, epoch: Epoch(0), txid: .zero, checksum: .empty)

  /// The token that clients get for this position.
  public var token: Token { Token(database: database.short, epoch: epoch, txid: txid) }
  public var description: String { "\(epoch).\(txid)/\(checksum)" }
}

/// `value` in lower-case hexadecimal, padded with zeros to `digits`.
func hex(_ value: some FixedWidthInteger, digits: Int) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
