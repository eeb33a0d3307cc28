// Where answers are written before they become a `ByteBuffer`.
//
// Every write to a ByteBuffer pays for a uniqueness and an exclusivity check, and an answer is
// dozens of small writes. This memory has one owner, so a write is a comparison and a store. It is
// kept from answer to answer, and copied once when it is handed over.

import NIOCore

/// A growing piece of memory with one owner.
public struct OutputBytes: ~Copyable, @unchecked Sendable {  // the pointer is never shared
  /// What is kept when the contents are taken; larger answers give their memory back.
  static let keptBytesMax = 256 << 10

  private var base: UnsafeMutableRawPointer
  private var capacity: Int
  /// How many bytes have been written.
  public private(set) var count = 0

  public init(capacity: Int = 4096) {
    self.capacity = max(capacity, 64)
    base = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  /// Hands over a copy of what has been written, and begins anew.
  public mutating func take() -> ByteBuffer {
    let bytes = UnsafeRawBufferPointer(start: base, count: count)
    var buffer = ByteBufferAllocator().buffer(capacity: count)
    buffer.writeBytes(bytes)
    removeAll()
    return buffer
  }

  /// What has been written, as text.
  public var string: String { withBytes { String(decoding: $0, as: UTF8.self) } }

  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    body(UnsafeRawBufferPointer(start: base, count: count))
  }

  /// Forgets what has been written.
  public mutating func removeAll() {
    count = 0
    guard capacity > Self.keptBytesMax else { return }
    base.deallocate()
    capacity = Self.keptBytesMax
    base = .allocate(byteCount: capacity, alignment: 16)
  }

  /// Forgets all but the first `count` bytes.
  public mutating func truncate(to count: Int) {
    precondition(count >= 0 && count <= self.count, "only what was written can be taken back")
    self.count = count
  }

  @inline(__always)
  public mutating func append(_ byte: UInt8) {
    if count == capacity { grow(by: 1) }
    base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
    count += 1
  }

  @inline(__always)
  public mutating func append(_ text: StaticString) {
    append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  @inline(__always)
  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress else { return }
    if bytes.count > capacity - count { grow(by: bytes.count) }
    (base + count).copyMemory(from: source, byteCount: bytes.count)
    count += bytes.count
  }

  public mutating func append(_ buffer: ByteBuffer) {
    buffer.withUnsafeReadableBytes { append($0) }
  }

  public mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Makes room for `most` bytes and lets `body` write them.
  ///
  /// - Parameter body: returns how many it has written, at most `most`.
  @inline(__always)
  mutating func append(atMost most: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) {
    if most > capacity - count { grow(by: most) }
    let written = body(UnsafeMutableRawBufferPointer(start: base + count, count: most))
    precondition(written >= 0 && written <= most, "written beyond the room that was asked for")
    count += written
  }

  @inline(never)
  private mutating func grow(by more: Int) {
    capacity = max(capacity * 2, count + more)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    larger.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = larger
  }
}
