// The inner loop of reading and writing JSON strings: how far bytes can be taken as they are.
//
// It knows nothing of JSON's structure. UTF-8 is checked on the way, so no byte is looked at twice.
// Source: RFC 8259 section 7, and the table of well-formed sequences in Unicode 15 (table 3-7).

/// The scanning loops.
enum JSONScan {
  /// Finds the first byte from `start` on that cannot stand for itself inside a JSON string.
  ///
  /// The byte at the result tells why: below 0x20 a control character, `"` or `\`, and from 0x80 on
  /// the start of something that is not UTF-8.
  /// - Returns: the offset of that byte, or `bytes.count` if all is clean.
  @inline(__always)
  static func cleanRun(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
    var at = start
    let end = bytes.count
    while true {
      while end - at >= 8 {
        let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        let special = specialBytes(UInt64(littleEndian: word))
        if special != 0 {
          at += special.trailingZeroBitCount / 8
          break
        }
        at += 8
      }
      while at < end, isPlainASCII(bytes[at]) { at += 1 }
      guard at < end, bytes[at] >= 0x80 else { return at }
      let length = multibyteLength(bytes, at: at)
      guard length > 0 else { return at }
      at += length
    }
  }

  /// Whether `bytes` are UTF-8 as a whole.
  static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var at = 0
    while at < bytes.count {
      if bytes[at] < 0x80 {
        at += 1
      } else {
        let length = multibyteLength(bytes, at: at)
        guard length > 0 else { return false }
        at += length
      }
    }
    return true
  }

  @inline(__always)
  private static func isPlainASCII(_ byte: UInt8) -> Bool {
    byte >= 0x20 && byte < 0x80 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
  }

  /// The top bit of each byte that needs a closer look. A byte above a marked one may be marked too
  /// much, so only the lowest mark counts.
  @inline(__always)
  private static func specialBytes(_ word: UInt64) -> UInt64 {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let quotes = word ^ (ones &* 0x22)
    let backslashes = word ^ (ones &* 0x5c)
    let found =
      (word &- (ones &* 0x20)) | (quotes &- ones) | (backslashes &- ones) | word
    return found & (ones &* 0x80)
  }

  /// The length of the well-formed sequence of two to four bytes at `at`; 0 if there is none.
  private static func multibyteLength(_ bytes: UnsafeRawBufferPointer, at: Int) -> Int {
    let left = bytes.count - at
    let first = bytes[at]
    guard left >= 2 else { return 0 }
    let second = bytes[at + 1]
    switch first {
    case 0xc2...0xdf:
      return isContinuation(second) ? 2 : 0
    case 0xe0...0xef:
      let low: UInt8 = first == 0xe0 ? 0xa0 : 0x80
      let high: UInt8 = first == 0xed ? 0x9f : 0xbf
      guard left >= 3, second >= low, second <= high, isContinuation(bytes[at + 2]) else {
        return 0
      }
      return 3
    case 0xf0...0xf4:
      let low: UInt8 = first == 0xf0 ? 0x90 : 0x80
      let high: UInt8 = first == 0xf4 ? 0x8f : 0xbf
      guard left >= 4, second >= low, second <= high, isContinuation(bytes[at + 2]),
        isContinuation(bytes[at + 3])
      else { return 0 }
      return 4
    default:
      return 0
    }
  }

  @inline(__always)
  private static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
}
