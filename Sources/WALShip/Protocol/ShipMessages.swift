// The bodies of the messages that follow the handshake. Live transactions have a file of their own.

import NIOCore

/// Announces a catch-up.
public struct ShipCatchUp: Equatable, Sendable {
  /// Pages that are to come, as far as is known now.
  public var pages: UInt32
  public var pageSize: UInt32
  /// True when the follower must not believe any page that it does not get and did not prove by its
  /// checksum.
  public var isComparison: Bool

  public init(pages: UInt32, pageSize: UInt32, isComparison: Bool) {
    self.pages = pages
    self.pageSize = pageSize
    self.isComparison = isComparison
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(UInt64(pages))
    body.writeVarint(UInt64(pageSize))
    body.writeInteger(isComparison ? 1 : 0 as UInt8)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    pages = try reader.varint32()
    pageSize = try reader.varint32()
    guard PageSize(Int(pageSize)) != nil else {
      throw .malformed("there is no page size \(pageSize)")
    }
    isComparison = try reader.byte() != 0
  }
}

/// The end of a round of catch-up. After a consistent one the follower stands at `position`.
public struct ShipRoundEnd: Equatable, Sendable {
  public var isConsistent: Bool
  public var position: Position
  public var history: EpochHistory
  public var pageCount: UInt32

  public init(isConsistent: Bool, position: Position, history: EpochHistory, pageCount: UInt32) {
    self.isConsistent = isConsistent
    self.position = position
    self.history = history
    self.pageCount = pageCount
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeInteger(isConsistent ? 1 : 0 as UInt8)
    body.writePosition(position)
    body.writeHistory(history)
    body.writeVarint(UInt64(pageCount))
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    isConsistent = try reader.byte() != 0
    position = try reader.position()
    history = try reader.history()
    pageCount = try reader.varint32()
  }
}

/// Alive, and how far the sender is: a primary's head going down, the last applied transaction
/// going up.
public struct ShipHeartbeat: Equatable, Sendable {
  public var epoch: Epoch
  public var txid: TXID
  /// Milliseconds since the node that sends had contact with the primary; 0 on the primary itself.
  public var contactMilliseconds: UInt64
  /// What a node says that never had contact.
  public static let noContactMilliseconds: UInt64 = 1 << 48
  public init(epoch: Epoch, txid: TXID, contactMilliseconds: UInt64) {
    self.epoch = epoch
    self.txid = txid
    self.contactMilliseconds = contactMilliseconds
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(UInt64(epoch.rawValue))
    body.writeVarint(txid.rawValue)
    body.writeVarint(contactMilliseconds)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    epoch = try reader.epoch()
    txid = try reader.txid()
    contactMilliseconds = try reader.varint()
  }
}

/// Checksums of consecutive pages of a follower. Parts come in the order of their pages.
public struct ShipPageChecksums: Equatable, Sendable {
  public static let countMax = 65536
  public var first: Pgno
  public var isLast: Bool
  public var checksums: [UInt64]

  public init(first: Pgno, isLast: Bool, checksums: [UInt64]) {
    self.first = first
    self.isLast = isLast
    self.checksums = checksums
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(UInt64(first.rawValue))
    body.writeInteger(isLast ? 1 : 0 as UInt8)
    body.writeVarint(UInt64(checksums.count))
    for checksum in checksums { body.writeInteger(checksum, endianness: .little) }
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    first = Pgno(try reader.varint32())
    isLast = try reader.byte() != 0
    let count = try reader.varint()
    guard first.rawValue > 0, count <= UInt64(Self.countMax) else {
      throw .malformed("too many checksums")
    }
    checksums = []
    checksums.reserveCapacity(Int(count))
    for _ in 0..<count { checksums.append(try reader.fixed64()) }
  }
}

extension ShipPageChecksums {
  /// Splits the checksums of all pages, from page 1 on.
  public static func parts(of checksums: [UInt64]) -> [ShipPageChecksums] {
    var parts: [ShipPageChecksums] = []
    var first = 0
    repeat {
      let end = min(checksums.count, first + countMax)
      parts.append(
        ShipPageChecksums(
          first: Pgno(UInt32(first + 1)), isLast: end == checksums.count,
          checksums: Array(checksums[first..<end])))
      first = end
    } while first < checksums.count
    return parts
  }

  /// Splits the checksums of some pages into runs of neighbours.
  public static func parts(of some: [Pgno: UInt64]) -> [ShipPageChecksums] {
    var parts: [ShipPageChecksums] = []
    for (pgno, checksum) in some.sorted(by: { $0.key < $1.key }) {
      if let last = parts.indices.last, parts[last].checksums.count < countMax,
        parts[last].first.index + parts[last].checksums.count == pgno.index
      {
        parts[last].checksums.append(checksum)
      } else {
        parts.append(ShipPageChecksums(first: pgno, isLast: false, checksums: [checksum]))
      }
    }
    if parts.isEmpty { return self.parts(of: []) }
    parts[parts.count - 1].isLast = true
    return parts
  }
}

/// The wish to be compared: the follower's checksums come next.
public struct ShipResynchronize: Equatable, Sendable {
  public var scope: FollowerPages.Scope
  public init(_ scope: FollowerPages.Scope) { self.scope = scope }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeScope(scope)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    scope = try reader.scope()
  }
}

/// A piece of a forwarded request or of its answer.
public struct ShipFragment: Equatable, Sendable {
  /// Pieces are small enough that live transactions never wait long behind them.
  public static let bytesMax = 256 << 10
  public var request: UInt64
  public var isLast: Bool
  public var bytes: ByteBuffer

  public init(request: UInt64, isLast: Bool, bytes: ByteBuffer) {
    self.request = request
    self.isLast = isLast
    self.bytes = bytes
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(request)
    body.writeInteger(isLast ? 1 : 0 as UInt8)
    body.writeImmutableBuffer(bytes)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    request = try reader.varint()
    isLast = try reader.byte() != 0
    bytes = reader.rest
  }

  /// The pieces of a whole.
  public static func split(_ whole: ByteBuffer, request: UInt64) -> [ShipFragment] {
    var rest = whole
    var pieces: [ShipFragment] = []
    repeat {
      let piece = rest.readSlice(length: min(rest.readableBytes, bytesMax)) ?? ByteBuffer()
      pieces.append(ShipFragment(request: request, isLast: rest.readableBytes == 0, bytes: piece))
    } while rest.readableBytes > 0
    return pieces
  }
}

/// Puts pieces together again.
public struct FragmentAssembler: Sendable {
  private var partial: [UInt64: ByteBuffer] = [:]
  private var bytes = 0
  private let bytesMax: Int

  /// - Parameter bytesMax: for all incomplete wholes together.
  public init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// - Returns: the whole, once its last piece is here.
  public mutating func receive(_ piece: ShipFragment) throws(ShipProtocolError) -> ByteBuffer? {
    if piece.isLast, partial[piece.request] == nil { return piece.bytes }
    // Each whole that was begun costs memory; only pieces with something in them are counted.
    guard piece.isLast || piece.bytes.readableBytes > 0 else { throw .malformed("an empty piece") }
    bytes += piece.bytes.readableBytes
    guard bytes <= bytesMax else { throw .tooLong(bytes) }
    partial[piece.request, default: ByteBuffer()].writeImmutableBuffer(piece.bytes)
    guard piece.isLast, let whole = partial.removeValue(forKey: piece.request) else { return nil }
    bytes -= whole.readableBytes
    return whole
  }
}
