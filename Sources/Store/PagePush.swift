// The pages that a client wants to be the next commit, and the state that they belong on. What a
// push may hold is for `PushCheck` to say. Source: docs/SYNC.md

import NIOCore
import WALShip

/// Pages for one commit.
public struct PagePush: Equatable, Sendable {
  /// The state that the pages were made from.
  public var epoch: Epoch
  public var txid: TXID
  public var checksum: DatabaseChecksum
  /// Pages of the database after the commit.
  public var pageCount: UInt32
  /// In ascending order, and none beyond `pageCount`.
  public private(set) var numbers: [Pgno] = []
  /// The pages in that order.
  public private(set) var content = ByteBuffer()

  /// The only size that these clients know.
  public static let pageBytes = 4096
  /// One push is one message to the primary.
  public static let pagesMax = 4000

  /// - Parameter base: the state that the pages were made from.
  public init(onto base: Position, pageCount: UInt32) {
    self.init(epoch: base.epoch, txid: base.txid, checksum: base.checksum, pageCount: pageCount)
  }

  public init(epoch: Epoch, txid: TXID, checksum: DatabaseChecksum, pageCount: UInt32) {
    self.epoch = epoch
    self.txid = txid
    self.checksum = checksum
    self.pageCount = pageCount
  }

  /// Adds a page behind the others.
  public mutating func append(_ pgno: Pgno, _ page: some Collection<UInt8>) {
    precondition(pgno > numbers.last ?? Pgno(0) && pgno.rawValue <= pageCount, "pages in order")
    precondition(page.count == Self.pageBytes, "a whole page")
    numbers.append(pgno)
    content.writeBytes(page)
  }

  /// Whether the pages belong on a state.
  func isOnto(_ position: Position) -> Bool {
    epoch == position.epoch && txid == position.txid && checksum == position.checksum
  }

  /// Goes through the pages.
  func forEach(_ body: (Pgno, UnsafeRawBufferPointer) throws -> Void) rethrows {
    try content.withUnsafeReadableBytes { bytes in
      for (index, pgno) in numbers.enumerated() {
        let start = index * Self.pageBytes
        try body(pgno, UnsafeRawBufferPointer(rebasing: bytes[start..<start + Self.pageBytes]))
      }
    }
  }

  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// The database is not at the state that the pages were made from.
    case conflict
    /// The pages do not make a database that this node would have made itself.
    case malformed(String)
    /// More than can be looked at before it is believed.
    case tooLarge(String)
    public var description: String {
      switch self {
      case .conflict: "the database has changed since the pages were made"
      case .malformed(let why): "the pages make no sound database: \(why)"
      case .tooLarge(let what): what
      }
    }
  }
}
