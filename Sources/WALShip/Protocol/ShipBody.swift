// Reads and writes the fields of message bodies that are not hot: bounds are checked, lengths are
// capped.

import NIOCore

/// A reader over a message body in a buffer.
struct ShipBody {
  private var buffer: ByteBuffer
  init(_ buffer: ByteBuffer) { self.buffer = buffer }

  private static let early = ShipProtocolError.malformed("a message ends early")

  mutating func byte() throws(ShipProtocolError) -> UInt8 {
    guard let value: UInt8 = buffer.readInteger() else { throw Self.early }
    return value
  }

  mutating func varint() throws(ShipProtocolError) -> UInt64 {
    var offset = 0
    let value = buffer.withUnsafeReadableBytes { Varint.decode($0, at: &offset) }
    guard let value else { throw .malformed("a number ends early or is too long") }
    buffer.moveReaderIndex(forwardBy: offset)
    return value
  }

  mutating func varint32() throws(ShipProtocolError) -> UInt32 {
    guard let value = UInt32(exactly: try varint()) else {
      throw .malformed("a number is too large")
    }
    return value
  }

  mutating func varint16() throws(ShipProtocolError) -> UInt16 {
    guard let value = UInt16(exactly: try varint()) else {
      throw .malformed("a number is too large")
    }
    return value
  }

  mutating func fixed64() throws(ShipProtocolError) -> UInt64 {
    guard let value: UInt64 = buffer.readInteger(endianness: .little) else { throw Self.early }
    return value
  }

  mutating func bytes(_ count: Int) throws(ShipProtocolError) -> [UInt8] {
    guard let bytes = buffer.readBytes(length: count) else { throw Self.early }
    return bytes
  }

  mutating func counted(max: Int) throws(ShipProtocolError) -> [UInt8] {
    let count = try varint()
    guard count <= UInt64(max) else { throw .malformed("a field is too long") }
    return try bytes(Int(count))
  }

  mutating func text(max: Int) throws(ShipProtocolError) -> String {
    guard let text = String(validating: try counted(max: max), as: UTF8.self) else {
      throw .malformed("a text is not UTF-8")
    }
    return text
  }

  mutating func databaseID() throws(ShipProtocolError) -> DatabaseID {
    DatabaseID(high: try fixed64(), low: try fixed64())
  }

  mutating func node() throws(ShipProtocolError) -> NodeIdentity {
    NodeIdentity(
      id: try databaseID(), name: try text(max: 200), software: try text(max: 100),
      sqlite: try text(max: 100))
  }

  mutating func position() throws(ShipProtocolError) -> Position {
    Position(
      database: try databaseID(), epoch: try epoch(), txid: try txid(),
      checksum: DatabaseChecksum(try fixed64()))
  }

  mutating func epoch() throws(ShipProtocolError) -> Epoch {
    let epoch = Epoch(try varint32())
    guard epoch <= Epoch.max else { throw .malformed("there is no epoch \(epoch)") }
    return epoch
  }

  mutating func txid() throws(ShipProtocolError) -> TXID {
    let txid = TXID(try varint())
    guard txid <= TXID.max else { throw .malformed("there is no transaction \(txid)") }
    return txid
  }

  mutating func history() throws(ShipProtocolError) -> EpochHistory {
    let current = try epoch()
    let count = try varint()
    guard count <= UInt64(EpochHistory.forksMax) else { throw .malformed("too many epochs") }
    var forks: [EpochFork] = []
    for _ in 0..<count {
      forks.append(EpochFork(epoch: try epoch(), last: try txid()))
    }
    return EpochHistory(current: current, forks: forks)
  }

  mutating func scope() throws(ShipProtocolError) -> FollowerPages.Scope {
    try byte() == 0 ? .all : .since(try txid())
  }

  /// Why something ends, for programs and for people.
  mutating func reason<Reason: RawRepresentable<UInt8>>()
    throws(ShipProtocolError) -> (Reason, String)
  {
    guard let reason = Reason(rawValue: try byte()) else { throw .malformed("unknown reason") }
    return (reason, String(decoding: try counted(max: 500), as: UTF8.self))
  }

  /// What is left.
  var rest: ByteBuffer { buffer }
}

extension ByteBuffer {
  mutating func writeCounted(_ bytes: [UInt8]) {
    writeVarint(UInt64(bytes.count))
    writeBytes(bytes)
  }

  mutating func writeReason(_ reason: some RawRepresentable<UInt8>, _ message: String) {
    writeInteger(reason.rawValue)
    writeCounted(Array(message.utf8.prefix(500)))
  }

  mutating func writeDatabaseID(_ id: DatabaseID) {
    writeInteger(id.high, endianness: .little)
    writeInteger(id.low, endianness: .little)
  }

  mutating func writeNode(_ node: NodeIdentity) {
    writeDatabaseID(node.id)
    writeCounted(Array(node.name.utf8.prefix(200)))
    writeCounted(Array(node.software.utf8.prefix(100)))
    writeCounted(Array(node.sqlite.utf8.prefix(100)))
  }

  mutating func writePosition(_ position: Position) {
    writeDatabaseID(position.database)
    writeVarint(UInt64(position.epoch.rawValue))
    writeVarint(position.txid.rawValue)
    writeInteger(position.checksum.rawValue, endianness: .little)
  }

  mutating func writeScope(_ scope: FollowerPages.Scope) {
    switch scope {
    case .all: writeInteger(0 as UInt8)
    case .since(let txid):
      writeInteger(1 as UInt8)
      writeVarint(txid.rawValue)
    }
  }

  mutating func writeHistory(_ history: EpochHistory) {
    writeVarint(UInt64(history.current.rawValue))
    writeVarint(UInt64(history.forks.count))
    for fork in history.forks {
      writeVarint(UInt64(fork.epoch.rawValue))
      writeVarint(fork.last.rawValue)
    }
  }
}
