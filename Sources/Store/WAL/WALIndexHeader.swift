// The header of the wal-index: 48 bytes, kept twice, that say which frames of the WAL count.
// Source: https://www.sqlite.org/walformat.html#the_wal_index_file_format

import CSQLite
import WALShip

/// How far a WAL is valid. It changes with every commit, by whichever process.
public struct WALIndexHeader: Equatable, Sendable {
  public static let byteCount = 48
  static let version: UInt32 = 3_007_000

  /// Counts changes of this header; with the salts it tells any two states apart.
  public var change: UInt32
  public var isInitialized: Bool
  public var bigEndianChecksums: Bool
  public var pageSize: Int
  /// The last frame that counts; 0 when the WAL is empty.
  public var frameCount: UInt32
  /// Pages of the database after the last commit.
  public var pageCount: UInt32
  /// The checksum of the last frame, from which the next one goes on.
  public var frameChecksum: WALChecksum
  public var salts: Salts

  /// Reads one copy; nil when its checksum does not hold, as while somebody writes it.
  init?(at pointer: UnsafeRawPointer) {
    let words = (0..<12).map { edge_load_u32(pointer + $0 * 4) }
    var checksum = WALChecksum.zero
    words.withUnsafeBytes {
      checksum.update(UnsafeRawBufferPointer(rebasing: $0[0..<40]), bigEndian: false)
    }
    guard words[0] == Self.version, checksum.s0 == words[10], checksum.s1 == words[11] else {
      return nil
    }
    change = words[2]
    let flags = words[3]
    isInitialized = flags & 0xff != 0
    bigEndianChecksums = flags >> 8 & 0xff != 0
    let size = Int(flags >> 16)
    pageSize = (size & 0xfe00) + (size & 1) << 16
    frameCount = words[4]
    pageCount = words[5]
    frameChecksum = WALChecksum(s0: words[6], s1: words[7])
    salts = Salts(first: words[8].byteSwapped, second: words[9].byteSwapped)
  }

  /// The twelve words of a copy, its own checksum included.
  var words: [UInt32] {
    let size = UInt32(pageSize & 0xff00 | pageSize >> 16)
    var words: [UInt32] = [
      Self.version, 0, change,
      (isInitialized ? 1 : 0) | (bigEndianChecksums ? 1 << 8 : 0) | size << 16,
      frameCount, pageCount, frameChecksum.s0, frameChecksum.s1,
      salts.first.byteSwapped, salts.second.byteSwapped, 0, 0,
    ]
    var checksum = WALChecksum.zero
    words.withUnsafeBytes {
      checksum.update(UnsafeRawBufferPointer(rebasing: $0[0..<40]), bigEndian: false)
    }
    words[10] = checksum.s0
    words[11] = checksum.s1
    return words
  }

  /// The place in the WAL's life that this header describes.
  public var place: LogPlace { LogPlace(salts: salts, frame: frameCount) }
}
