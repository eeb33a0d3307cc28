// Unsigned LEB128: seven bits a byte, the lowest first, the top bit set on all bytes but the last.
// These are not SQLite's varints, which put the highest bits first.
//
// Source: https://en.wikipedia.org/wiki/LEB128#Unsigned_LEB128

/// Variable-length integers inside messages and page payloads.
public enum Varint {
  /// The bytes that the largest `UInt64` takes.
  public static let byteCountMax = 10

  /// The bytes that `value` takes.
  @inlinable
  public static func byteCount(_ value: UInt64) -> Int {
    (70 - (value | 1).leadingZeroBitCount) / 7
  }

  /// Writes `value` at `offset`, which moves past it. There must be room for it.
  @inlinable
  public static func encode(
    _ value: UInt64, into bytes: UnsafeMutableRawBufferPointer, at offset: inout Int
  ) {
    precondition(
      offset >= 0 && byteCount(value) <= bytes.count - offset, "no room for a varint")
    var rest = value
    while rest >= 0x80 {
      bytes.storeBytes(
        of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: offset, as: UInt8.self)
      rest &>>= 7
      offset &+= 1
    }
    bytes.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: offset, as: UInt8.self)
    offset &+= 1
  }

  /// Reads the value at `offset`, which moves past it.
  ///
  /// - Returns: nil when `bytes` ends inside the value, or it does not fit 64 bits; `offset` stays.
  @inlinable
  public static func decode(_ bytes: UnsafeRawBufferPointer, at offset: inout Int) -> UInt64? {
    guard offset >= 0 else { return nil }
    var value: UInt64 = 0
    var next = offset
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard next < bytes.count else { return nil }
      let byte = bytes[next]
      next += 1
      // The tenth byte holds bit 63 alone.
      guard shift < 63 || byte <= 1 else { return nil }
      value |= UInt64(byte & 0x7f) &<< shift
      if byte < 0x80 {
        offset = next
        return value
      }
    }
    return nil
  }
}
