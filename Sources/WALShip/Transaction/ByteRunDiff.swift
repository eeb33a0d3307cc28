// The bytes of a page that differ from an earlier image of it. Best when little changed and nothing
// moved; moved content is for LZ4 with the image as dictionary, see `PageCodec`.
//
// Format: runs of {varint equal bytes to skip, varint byte count > 0, bytes}; after the last run,
// the page equals its base.

enum ByteRunDiff {
  /// Equal bytes that end a run: fewer cost less as part of it than the two varints of a new one.
  private static let gapBytesMin = 4

  /// Writes what turns `base` into `page`, which has the same size, to `payload`.
  ///
  /// - Returns: the bytes written; nil when they would be more than `payload` has.
  static func encode(
    page: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer,
    into payload: UnsafeMutableRawBufferPointer
  ) -> Int? {
    precondition(page.count == base.count, "a diff is between images of one page")
    guard let new = page.baseAddress, let old = base.baseAddress else { return 0 }
    let count = page.count
    var written = 0
    var runEnd = 0
    while true {
      let start = firstDifference(new, old, from: runEnd, to: count)
      guard start < count else { return written }
      let end = endOfRun(new, old, from: start, to: count)
      let length = end - start
      let skip = UInt64(start - runEnd)
      let needed = Varint.byteCount(skip) + Varint.byteCount(UInt64(length)) + length
      guard needed <= payload.count - written else { return nil }
      Varint.encode(skip, into: payload, at: &written)
      Varint.encode(UInt64(length), into: payload, at: &written)
      UnsafeMutableRawBufferPointer(rebasing: payload[written..<written + length])
        .copyMemory(from: UnsafeRawBufferPointer(start: new + start, count: length))
      written += length
      runEnd = end
    }
  }

  /// Rebuilds the page that `payload` was made from. `base` and `page` have the same size and
  /// do not overlap. `page` is undefined after an error.
  static func decode(
    _ payload: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer,
    into page: UnsafeMutableRawBufferPointer
  ) throws(PageCodecError) {
    precondition(page.count == base.count, "a diff is between images of one page")
    page.copyMemory(from: base)
    var read = 0
    var position = 0
    while read < payload.count {
      guard let skip = Varint.decode(payload, at: &read),
        let length = Varint.decode(payload, at: &read), length > 0,
        skip <= UInt64(page.count - position)
      else { throw .malformed }
      position += Int(skip)
      guard length <= UInt64(page.count - position), length <= UInt64(payload.count - read) else {
        throw .malformed
      }
      let run = UnsafeRawBufferPointer(rebasing: payload[read..<read + Int(length)])
      UnsafeMutableRawBufferPointer(rebasing: page[position..<position + run.count])
        .copyMemory(from: run)
      read += run.count
      position += run.count
    }
  }

  /// The first place in `from..<to` where the images differ; `to` when they do not.
  @inline(__always)
  private static func firstDifference(
    _ new: UnsafeRawPointer, _ old: UnsafeRawPointer, from: Int, to: Int
  ) -> Int {
    var index = from
    while index <= to - 8 {
      let difference = difference(new, old, at: index)
      if difference != 0 { return index + difference.trailingZeroBitCount >> 3 }
      index += 8
    }
    while index < to,
      new.load(fromByteOffset: index, as: UInt8.self)
        == old.load(fromByteOffset: index, as: UInt8.self)
    {
      index += 1
    }
    return index
  }

  /// Where the run that begins at `from` ends: before the next `gapBytesMin` equal bytes or the
  /// equal end of the page.
  @inline(__always)
  private static func endOfRun(
    _ new: UnsafeRawPointer, _ old: UnsafeRawPointer, from: Int, to: Int
  ) -> Int {
    var index = from + 1
    var end = index
    while index < to {
      // Eight bytes that all differ are the common case inside moved content.
      if index <= to - 8, !hasZeroByte(difference(new, old, at: index)) {
        index += 8
        end = index
        continue
      }
      let isEqual =
        new.load(fromByteOffset: index, as: UInt8.self)
        == old.load(fromByteOffset: index, as: UInt8.self)
      index += 1
      if !isEqual {
        end = index
      } else if index - end >= gapBytesMin {
        return end
      }
    }
    return end
  }

  @inline(__always)
  private static func difference(
    _ new: UnsafeRawPointer, _ old: UnsafeRawPointer, at index: Int
  ) -> UInt64 {
    // Little-endian, so that trailing zero bits count the first equal bytes.
    UInt64(
      littleEndian: new.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        ^ old.loadUnaligned(fromByteOffset: index, as: UInt64.self))
  }

  /// Source: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
  @inline(__always)
  private static func hasZeroByte(_ word: UInt64) -> Bool {
    (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080 != 0
  }
}
