// What pyturso and Turso's newer libraries ask with `/pull-updates`, and the header of the answer:
// protobuf, of which this is as much as they use.
// Source: https://protobuf.dev/programming-guides/encoding/ and docs/SYNC.md

import NIOCore
import WALShip

/// A request of `/pull-updates`. Any bytes may be given to it.
package struct PullUpdatesRequest: Equatable {
  package var serverRevision = ""
  package var clientRevision = ""
  /// How long the answer may wait for something newer; 0 for not at all.
  package var pollMilliseconds: UInt64 = 0
  /// Which pages are wanted, by their numbers from 0; nil for all.
  package var pages: PageSet?
  package var querySelector = ""
  /// The records of another storage engine are wanted.
  package var wantsLogicalLog = false

  /// Longer revisions are none of ours.
  static let revisionBytesMax = 256

  package enum Failure: Error, Equatable {
    case malformed
  }

  package init() {}

  /// Unknown fields are skipped, and of a field that comes twice the last one counts.
  package init(decoding bytes: ByteBuffer) throws(Failure) {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (2, .bytes(let text)): serverRevision = try Self.text(text)
      case (3, .bytes(let text)): clientRevision = try Self.text(text)
      case (4, .number(let milliseconds)): pollMilliseconds = milliseconds
      case (5, .bytes(let set)): pages = try Self.pages(set)
      case (7, .bytes(let text)):
        querySelector = String(decoding: text.readableBytesView, as: UTF8.self)
      case (8, .number(let kind)): wantsLogicalLog = kind != 0
      default: break
      }
    }
  }

  private static func pages(_ bytes: ByteBuffer) throws(Failure) -> PageSet? {
    guard bytes.readableBytes > 0 else { return nil }
    do throws(PageSet.Malformed) {
      return try PageSet(decoding: Array(bytes.readableBytesView))
    } catch {
      throw .malformed
    }
  }

  private static func text(_ bytes: ByteBuffer) throws(Failure) -> String {
    guard bytes.readableBytes <= revisionBytesMax else { throw .malformed }
    return String(decoding: bytes.readableBytesView, as: UTF8.self)
  }
}

/// Takes a message apart, field by field. Lengths are believed as far as there are bytes.
private struct ProtobufReader {
  enum Value {
    case number(UInt64)
    case bytes(ByteBuffer)
    case skipped
  }

  private var bytes: ByteBuffer
  private static let fieldNumberMax: UInt64 = (1 << 29) - 1

  init(_ bytes: ByteBuffer) { self.bytes = bytes }

  /// - Returns: nil at the end.
  mutating func next() throws(PullUpdatesRequest.Failure) -> (number: UInt64, value: Value)? {
    guard bytes.readableBytes > 0 else { return nil }
    let key = try varint()
    let number = key >> 3
    guard number > 0, number <= Self.fieldNumberMax else { throw .malformed }
    switch key & 7 {
    case 0: return (number, .number(try varint()))
    case 1: return (number, try skip(8))
    case 2:
      guard let count = Int(exactly: try varint()), let part = bytes.readSlice(length: count) else {
        throw .malformed
      }
      return (number, .bytes(part))
    case 5: return (number, try skip(4))
    default: throw .malformed
    }
  }

  private mutating func skip(_ count: Int) throws(PullUpdatesRequest.Failure) -> Value {
    guard bytes.readSlice(length: count) != nil else { throw .malformed }
    return .skipped
  }

  private mutating func varint() throws(PullUpdatesRequest.Failure) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 64, by: 7) {
      guard let byte: UInt8 = bytes.readInteger() else { throw .malformed }
      guard shift < 63 || byte <= 1 else { throw .malformed }
      value |= UInt64(byte & 0x7f) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    throw .malformed
  }
}

/// The messages of an answer, each with its length before it.
enum PullUpdatesAnswer {
  /// - Parameter revision: what the client shows the next time.
  static func header(revision: String, pageCount: UInt32) -> ByteBuffer {
    var body = ByteBuffer()
    write(Array(revision.utf8), field: 1, into: &body)
    body.writeInteger(UInt8(2 << 3))
    write(UInt64(pageCount), into: &body)
    // Pages as they are.
    write([], field: 3, into: &body)
    // The protocol is that of pages.
    body.writeInteger(UInt8(8 << 3))
    body.writeInteger(UInt8(1))
    var bytes = ByteBuffer()
    write(UInt64(body.readableBytes), into: &bytes)
    bytes.writeBuffer(&body)
    return bytes
  }

  /// Pages are counted from 0 here.
  static func write(_ index: UInt32, _ page: UnsafeRawBufferPointer, into bytes: inout ByteBuffer) {
    var body = ByteBuffer()
    if index > 0 {
      body.writeInteger(UInt8(1 << 3))
      write(UInt64(index), into: &body)
    }
    body.writeInteger(UInt8(2 << 3 | 2))
    write(UInt64(page.count), into: &body)
    write(UInt64(body.readableBytes + page.count), into: &bytes)
    bytes.writeBuffer(&body)
    bytes.writeBytes(page)
  }

  private static func write(_ content: [UInt8], field: UInt8, into bytes: inout ByteBuffer) {
    bytes.writeInteger(field << 3 | 2)
    write(UInt64(content.count), into: &bytes)
    bytes.writeBytes(content)
  }

  private static func write(_ number: UInt64, into bytes: inout ByteBuffer) {
    var rest = number
    while rest >= 0x80 {
      bytes.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.writeInteger(UInt8(rest))
  }
}
