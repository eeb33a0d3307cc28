// A replica keeps its position inside the database: in bytes of page 1 that SQLite reserves and
// does not read. So the position is atomic with the data it names, whoever recovers, checkpoints or
// copies the file. docs/FORMAT.md

import WALShip

/// The mark that a replica leaves in page 1.
///
/// Bytes 72 to 91 are reserved for expansion:
/// https://www.sqlite.org/fileformat2.html#the_database_header
public struct PositionStamp: Equatable, Sendable {
  private static let magic: UInt32 = 0x4544_4745  // "EDGE"
  /// A write version above 2 makes every stock SQLite treat the file as read-only.
  static let readOnlyWriteVersion: UInt8 = 3

  public var database: UInt32
  public var epoch: Epoch
  public var txid: TXID

  public init(database: UInt32, epoch: Epoch, txid: TXID) {
    self.database = database
    self.epoch = epoch
    self.txid = txid
  }

  public init(_ position: Position) {
    self.init(database: position.database.short, epoch: position.epoch, txid: position.txid)
  }

  /// Reads the stamp of a page 1; nil when there is none.
  public init?(page: UnsafeRawBufferPointer) {
    guard page.count >= 100 else { return nil }
    func word(_ offset: Int) -> UInt32 {
      UInt32(bigEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    guard word(72) == Self.magic else { return nil }
    epoch = Epoch(word(76))
    txid = TXID(UInt64(word(80)) << 32 | UInt64(word(84)))
    database = word(88)
    guard epoch <= Epoch.max, txid <= TXID.max else { return nil }
  }

  /// Marks a page 1 as a replica's.
  public func write(to page: UnsafeMutableRawBufferPointer) {
    func put(_ value: UInt32, _ offset: Int) {
      page.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
    put(Self.magic, 72)
    put(epoch.rawValue, 76)
    put(UInt32(truncatingIfNeeded: txid.rawValue >> 32), 80)
    put(UInt32(truncatingIfNeeded: txid.rawValue), 84)
    put(database, 88)
    page[ReplicaStamp.writeVersionOffset] = Self.readOnlyWriteVersion
  }

  /// Makes a page 1 what it is on the primary: without a stamp, and writable.
  public static func clear(_ page: UnsafeMutableRawBufferPointer) {
    for offset in ReplicaStamp.range { page[offset] = 0 }
    page[ReplicaStamp.writeVersionOffset] = page[ReplicaStamp.writeVersionOffset + 1]
  }
}

/// The first 100 bytes of a database file.
///
/// Source: https://www.sqlite.org/fileformat2.html#the_database_header
public struct DatabaseHeader: Equatable, Sendable {
  public var pageSize: PageSize
  public var isWAL: Bool
  public var changeCounter: UInt32
  public var pageCount: UInt32
  public var stamp: PositionStamp?

  /// Reads the header of a file that no connection of this process has open.
  ///
  /// - Returns: nil when the file does not begin as a SQLite database.
  public init?(file path: String) throws(DiskError) {
    self.init(try Disk.readPrefix(of: path, count: 100))
  }

  /// - Returns: nil when the bytes do not begin a SQLite database.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count >= 100, bytes.starts(with: Array("SQLite format 3\u{0}".utf8)) else {
      return nil
    }
    func number(_ offset: Int, _ count: Int) -> UInt32 {
      bytes[offset..<offset + count].reduce(0) { $0 << 8 | UInt32($1) }
    }
    let size = number(16, 2)
    guard let pageSize = PageSize(size == 1 ? 65536 : Int(size)) else { return nil }
    self.pageSize = pageSize
    isWAL = bytes[19] == 2
    changeCounter = number(24, 4)
    pageCount = number(28, 4)
    stamp = bytes.withUnsafeBytes { PositionStamp(page: $0) }
  }
}
