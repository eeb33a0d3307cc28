// The messages between nodes. One connection carries live transactions, catch-up pages,
// acknowledgements, heartbeats and forwarded requests, so that nothing waits behind a bulk copy.
// Sequence diagrams and byte tables: docs/PROTOCOL.md

import NIOCore

/// What a message is about. Numbers never change their meaning; new ones are added at the end.
public enum ShipMessageKind: UInt8, Sendable, CaseIterable {
  /// Follower: versions and a nonce.
  case hello = 1
  /// Server: the version chosen, a nonce, and its proof of the secret.
  case challenge = 2
  /// Follower: who it is and where it stands, with its proof of the secret.
  case join = 3
  /// Server: who it is, where it stands, and how it will serve the follower.
  case welcome = 4
  /// Server: why it will not serve the follower; the connection ends.
  case refuse = 5
  /// Server: one commit.
  case transaction = 6
  /// Server: a catch-up begins.
  case catchUp = 7
  /// Server: some pages of a catch-up.
  case pages = 8
  /// Server: a round of the catch-up is complete, and consistent if it says so.
  case roundEnd = 9
  /// Both: alive, and where the sender stands.
  case heartbeat = 10
  /// Follower: how far it has applied.
  case acknowledge = 11
  /// Follower: the checksums of its pages, for a comparison.
  case pageChecksums = 12
  /// Follower: a client's request for the primary, or a piece of one.
  case request = 13
  /// Server: the answer to a request, or a piece of one.
  case response = 14
  /// Follower: its pages do not add up; it wants to be compared.
  case resynchronize = 15
  /// Server: the position without a transaction, after an epoch began.
  case position = 16
  /// Follower of many databases: who it is and which it takes, with its proof of the secret.
  case attach = 17
  /// Server of many databases: who it is, with its proof of the secret.
  case catalogue = 18
  /// Server: where a database stands that is not being followed, or that it is gone.
  case news = 19
  /// Server: all databases have been told of.
  case listed = 20
  /// Follower: follows a database on this stream.
  case open = 21
  /// Both: the stream is over.
  case end = 22
  /// Follower: how much it has taken of the stream.
  case window = 23
  /// Follower: a client's wish to have a database made, copied or removed.
  case change = 24
  /// Server: what became of that wish.
  case changed = 25
}

/// One message as it travels: 12 bytes of header, then the body.
public struct ShipMessage: Equatable, Sendable {
  public static let headerBytes = 12
  /// No message is longer, header included. Larger things travel in pieces.
  public static let bytesMax = 2 << 20

  public var kind: ShipMessageKind
  /// Which database of the connection it is about; 0 on a link with one, and for the link itself.
  public var stream: UInt16
  public var body: ByteBuffer

  public init(_ kind: ShipMessageKind, stream: UInt16 = 0, body: ByteBuffer) {
    self.kind = kind
    self.stream = stream
    self.body = body
  }
}

extension ByteBuffer {
  /// Appends a message: length, kind, check of the header, stream, checksum of all that and the
  /// body, body.
  /// Little-endian.
  public mutating func writeShipMessage(_ message: ShipMessage) {
    let length = ShipMessage.headerBytes + message.body.readableBytes
    precondition(length <= ShipMessage.bytesMax, "a message outgrew its limit")
    reserveCapacity(minimumWritableBytes: length)
    let start = writerIndex
    writeInteger(UInt32(length), endianness: .little)
    writeInteger(message.kind.rawValue)
    writeInteger(headerCheck(UInt32(length), message.kind.rawValue, message.stream))
    writeInteger(message.stream, endianness: .little)
    writeInteger(0 as UInt32)
    writeImmutableBuffer(message.body)
    let sum = withUnsafeReadableBytes { bytes in
      let offset = start - readerIndex
      return shipChecksum(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
    }
    setInteger(sum, at: start + 8, endianness: .little)
  }

  /// Appends whole messages, as they were written for a link with one database, on a stream.
  ///
  /// - Throws: when the bytes are no messages.
  public mutating func writeShipMessages(
    _ messages: ByteBuffer, stream: UInt16
  ) throws(ShipProtocolError) {
    var rest = messages
    reserveCapacity(minimumWritableBytes: messages.readableBytes)
    while rest.readableBytes > 0 {
      guard let length: UInt32 = rest.getInteger(at: rest.readerIndex, endianness: .little),
        let kind: UInt8 = rest.getInteger(at: rest.readerIndex + 4),
        length >= ShipMessage.headerBytes, let whole = rest.readSlice(length: Int(length)),
        let body = whole.getSlice(
          at: whole.readerIndex + ShipMessage.headerBytes,
          length: Int(length) - ShipMessage.headerBytes)
      else { throw .damaged }
      guard let kind = ShipMessageKind(rawValue: kind) else { throw .malformed("unknown kind") }
      writeShipMessage(ShipMessage(kind, stream: stream, body: body))
    }
  }

  /// Takes the next complete message off the front.
  ///
  /// - Returns: nil when more bytes are needed.
  /// - Throws: when the bytes are no message; the connection is then of no more use.
  public mutating func readShipMessage() throws(ShipProtocolError) -> ShipMessage? {
    guard let length: UInt32 = getInteger(at: readerIndex, endianness: .little),
      let kindByte: UInt8 = getInteger(at: readerIndex + 4),
      let check: UInt8 = getInteger(at: readerIndex + 5),
      let stream: UInt16 = getInteger(at: readerIndex + 6, endianness: .little)
    else { return nil }
    // A wrong length must not make anybody wait for bytes that never come.
    guard check == headerCheck(length, kindByte, stream) else { throw .damaged }
    guard length >= ShipMessage.headerBytes, length <= ShipMessage.bytesMax else {
      throw .tooLong(Int(length))
    }
    guard var bytes = getSlice(at: readerIndex, length: Int(length)) else { return nil }
    let sum = bytes.withUnsafeReadableBytes { shipChecksum($0) }
    bytes.moveReaderIndex(forwardBy: 8)
    guard let expected: UInt32 = bytes.readInteger(endianness: .little), expected == sum else {
      throw .damaged
    }
    guard let kind = ShipMessageKind(rawValue: kindByte) else {
      throw .malformed("unknown kind \(kindByte)")
    }
    moveReaderIndex(forwardBy: Int(length))
    return ShipMessage(kind, stream: stream, body: bytes)
  }
}

/// What the other bytes of the first eight add up to, without carry: any single flipped bit shows.
private func headerCheck(_ length: UInt32, _ kind: UInt8, _ stream: UInt16) -> UInt8 {
  let pair = UInt16(truncatingIfNeeded: length) ^ UInt16(truncatingIfNeeded: length >> 16) ^ stream
  return UInt8(truncatingIfNeeded: pair) ^ UInt8(truncatingIfNeeded: pair >> 8) ^ kind ^ 0xa5
}

/// The checksum of a whole message, its own four bytes left out.
private func shipChecksum(_ message: UnsafeRawBufferPointer) -> UInt32 {
  let head = xxh64(UnsafeRawBufferPointer(rebasing: message[0..<8]), seed: 0)
  let body = UnsafeRawBufferPointer(rebasing: message[ShipMessage.headerBytes...])
  return UInt32(truncatingIfNeeded: xxh64(body, seed: head))
}
