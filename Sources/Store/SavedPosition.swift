// Where a closed database stands, read from what lies beside it without opening it: a node with
// thousands of them tells its followers so, and knows which it must follow.

import WALShip

/// What the page map of a closed database says.
public struct SavedPosition: Equatable, Sendable {
  public var database: DatabaseID
  /// Nil after anything but an orderly stop: then only opening it tells.
  public var position: Position?

  /// Reads the page map of the database at `path`, which nobody of this process has open.
  ///
  /// - Returns: nil when there is none that can be read.
  public init?(of path: String) {
    let mapPath = PrimaryDatabase.pageMapPath(of: path)
    guard
      let bytes = try? Disk.readPrefix(of: mapPath, count: PageMapLayout.headerBytes),
      bytes.count == PageMapLayout.headerBytes
    else { return nil }
    let records: (PageMapIdentity, PageMapBase)? = bytes.withUnsafeBytes { bytes in
      func slot(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
      }
      guard let identity = try? PageMapIdentity(decoding: slot(0, PageMapIdentity.byteCount))
      else { return nil }
      let bases = PageMapLayout.baseOffsets.compactMap {
        PageMapBase(decoding: slot($0, PageMapBase.byteCount))
      }
      return bases.max { $0.sequence < $1.sequence }.map { (identity, $0) }
    }
    guard let (identity, base) = records else { return nil }
    database = identity.database
    // Another file in its place is another history, or will be.
    let isSameFile = base.fileNumber == 0 || base.fileNumber == Disk.fileNumber(path)
    guard base.isClean, isSameFile else { return }
    position = Position(
      database: identity.database, epoch: base.history.current, txid: base.txid,
      checksum: base.checksum)
  }
}
