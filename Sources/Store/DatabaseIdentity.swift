// Who a primary's database is, in a small file beside it: `NAME-identity`. When the page map is
// lost or damaged, the database stays the same to its replicas; only its epoch is new.

import Glibc
import WALShip

/// The part of a page map that no pages can tell. Format: docs/FORMAT.md
struct DatabaseIdentity: Equatable, Sendable {
  var identity: PageMapIdentity
  var history: EpochHistory
  /// A later epoch of another primary.
  var superseding = Epoch(0)

  init(identity: PageMapIdentity, history: EpochHistory) {
    self.identity = identity
    self.history = history
  }

  init(_ map: PageMapFile) {
    self.init(identity: map.identity, history: map.base.history)
    superseding = map.base.superseding
  }

  static func path(of database: String) -> String { database + "-identity" }
  private static let byteCount = PageMapIdentity.byteCount + PageMapBase.byteCount

  /// - Returns: nil when the file is missing or damaged.
  static func load(_ database: String) -> DatabaseIdentity? {
    guard let bytes = try? Disk.readPrefix(of: path(of: database), count: byteCount),
      bytes.count == byteCount
    else { return nil }
    return bytes.withUnsafeBytes { bytes in
      let head = UnsafeRawBufferPointer(rebasing: bytes[0..<PageMapIdentity.byteCount])
      let rest = UnsafeRawBufferPointer(rebasing: bytes[PageMapIdentity.byteCount...])
      guard let identity = try? PageMapIdentity(decoding: head),
        let base = PageMapBase(decoding: rest)
      else { return nil }
      var known = DatabaseIdentity(identity: identity, history: base.history)
      known.superseding = base.superseding
      return known
    }
  }

  /// Whether the file was written by a later release: it must stay as it is.
  static func isNewer(_ database: String) -> Bool {
    guard
      let bytes = try? Disk.readPrefix(of: path(of: database), count: PageMapIdentity.byteCount)
    else { return false }
    return bytes.withUnsafeBytes { bytes in
      do throws(PageMapIdentity.Failure) {
        _ = try PageMapIdentity(decoding: bytes)
        return false
      } catch {
        switch error {
        case .newerFormat: return true
        case .notAPageMap: return false
        }
      }
    }
  }

  /// Writes the file, unless it says the same already.
  func save(_ database: String) throws(DiskError) {
    guard Self.load(database) != self else { return }
    let nowhere = LogPlace(salts: Salts(first: 0, second: 0), frame: 0)
    var base = PageMapBase(
      sequence: 0, history: history, txid: .zero, checksum: .empty, place: nowhere, pageCount: 0,
      isClean: false)
    base.superseding = superseding
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    bytes.withUnsafeMutableBytes { bytes in
      identity.encode(
        into: UnsafeMutableRawBufferPointer(rebasing: bytes[0..<PageMapIdentity.byteCount]))
      base.encode(
        into: UnsafeMutableRawBufferPointer(rebasing: bytes[PageMapIdentity.byteCount...]))
    }
    try Disk.replace(Self.path(of: database), with: bytes)
  }
}
