// A JSON string where it lies: already checked, not yet copied.
//
// The bytes belong to the document that was read and must not be used after it is gone.

import NIOCore

/// The contents of a JSON string, between its quotation marks.
public struct JSONText {
  /// As written, with escapes; the reader has checked every one of them.
  public let raw: UnsafeRawBufferPointer
  /// Where `raw` begins in the document, in bytes.
  public let offset: Int
  public let hasEscapes: Bool

  /// The text: copied once.
  public var string: String {
    guard hasEscapes else { return String(decoding: raw, as: UTF8.self) }
    return String(unsafeUninitializedCapacity: raw.count) { space in
      unescape(into: UnsafeMutableRawBufferPointer(space))
    }
  }

  /// Appends the text to `buffer`.
  public func write(into buffer: inout ByteBuffer) {
    guard hasEscapes else {
      buffer.writeBytes(raw)
      return
    }
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: raw.count) { unescape(into: $0) }
  }

  /// Whether the text is `name`.
  func matches(_ name: StaticString) -> Bool {
    guard !hasEscapes else { return string == "\(name)" }
    guard raw.count == name.utf8CodeUnitCount else { return false }
    return name.withUTF8Buffer { name in
      for at in 0..<name.count where name[at] != raw[at] { return false }
      return true
    }
  }

  /// Writes the text to `space`, which has room for `raw.count` bytes: no escape is shorter than
  /// what it stands for.
  ///
  /// - Returns: how many bytes it took.
  private func unescape(into space: UnsafeMutableRawBufferPointer) -> Int {
    var from = 0
    var to = 0
    while from < raw.count {
      let byte = raw[from]
      guard byte == UInt8(ascii: "\\") else {
        space[to] = byte
        from += 1
        to += 1
        continue
      }
      let letter = raw[from + 1]
      from += 2
      if letter == UInt8(ascii: "u") {
        var scalar = UInt32(hexUnit(at: from))
        from += 4
        if scalar >= 0xd800, scalar < 0xdc00 {
          scalar = 0x10000 + (scalar - 0xd800) << 10 + UInt32(hexUnit(at: from + 2)) - 0xdc00
          from += 6
        }
        to += Self.encode(scalar, into: space, at: to)
      } else {
        space[to] = Self.control(for: letter)
        to += 1
      }
    }
    return to
  }

  private func hexUnit(at offset: Int) -> UInt16 {
    var unit: UInt16 = 0
    for byte in raw[offset..<offset + 4] {
      unit = unit << 4 | UInt16(JSONReader.hexDigit(byte) ?? 0)
    }
    return unit
  }

  private static func control(for letter: UInt8) -> UInt8 {
    switch letter {
    case UInt8(ascii: "b"): 0x08
    case UInt8(ascii: "f"): 0x0c
    case UInt8(ascii: "n"): 0x0a
    case UInt8(ascii: "r"): 0x0d
    case UInt8(ascii: "t"): 0x09
    default: letter
    }
  }

  private static func encode(
    _ scalar: UInt32, into space: UnsafeMutableRawBufferPointer, at: Int
  ) -> Int {
    func byte(_ shift: UInt32, _ mark: UInt32) -> UInt8 {
      UInt8(truncatingIfNeeded: mark | (scalar >> shift) & (mark == 0x80 ? 0x3f : 0xff))
    }
    switch scalar {
    case 0..<0x80:
      space[at] = byte(0, 0)
      return 1
    case 0x80..<0x800:
      space[at] = byte(6, 0xc0)
      space[at + 1] = byte(0, 0x80)
      return 2
    case 0x800..<0x10000:
      space[at] = byte(12, 0xe0)
      space[at + 1] = byte(6, 0x80)
      space[at + 2] = byte(0, 0x80)
      return 3
    default:
      space[at] = byte(18, 0xf0)
      space[at + 1] = byte(12, 0x80)
      space[at + 2] = byte(6, 0x80)
      space[at + 3] = byte(0, 0x80)
      return 4
    }
  }
}
