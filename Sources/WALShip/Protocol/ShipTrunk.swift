// The messages of a link that carries many databases: which there are, and the streams on which each
// of them is followed. What travels on a stream are the messages of a link with one database, from
// `welcome` on. Sequence diagrams and byte tables: docs/PROTOCOL.md

import NIOCore

/// Figures of a link with many databases that both sides know.
public enum ShipTrunk {
  /// What a server sends on one stream before the follower has told that it took it: one database
  /// that is slow to apply holds back nobody else.
  public static let windowBytes = 1 << 20
  /// Databases that are followed at once on one link.
  public static let streamsMax = 4096
  public static let nameBytesMax = 64
  /// Stream 0 is about the link itself.
  public static let linkStream: UInt16 = 0
}

/// A follower of many databases introduces itself.
public struct ShipAttach: Equatable, Sendable {
  public var node: NodeIdentity
  /// Of the folder that it follows; `.zero` before the first time.
  public var catalogue: DatabaseID
  public var filter: DatabaseFilter

  public init(node: NodeIdentity, catalogue: DatabaseID, filter: DatabaseFilter) {
    self.node = node
    self.catalogue = catalogue
    self.filter = filter
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeNode(node)
    body.writeDatabaseID(catalogue)
    body.writeVarint(UInt64(filter.patterns.count))
    for pattern in filter.patterns { body.writeCounted(Array(pattern.utf8)) }
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    node = try reader.node()
    catalogue = try reader.databaseID()
    let count = try reader.varint()
    guard count <= UInt64(DatabaseFilter.patternsMax) else { throw .malformed("too many patterns") }
    var patterns: [String] = []
    for _ in 0..<count { patterns.append(try reader.text(max: DatabaseFilter.patternBytesMax)) }
    guard let filter = DatabaseFilter(patterns) else { throw .malformed("a pattern is none") }
    self.filter = filter
  }
}

/// A node with many databases introduces itself.
public struct ShipCatalogue: Equatable, Sendable {
  public var node: NodeIdentity
  /// The nodes from the primary down to this one.
  public var lineage: [DatabaseID]
  /// Of the primary's folder.
  public var catalogue: DatabaseID

  public init(node: NodeIdentity, lineage: [DatabaseID], catalogue: DatabaseID) {
    self.node = node
    self.lineage = lineage
    self.catalogue = catalogue
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeNode(node)
    body.writeVarint(UInt64(lineage.count))
    for id in lineage { body.writeDatabaseID(id) }
    body.writeDatabaseID(catalogue)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    node = try reader.node()
    let count = try reader.varint()
    guard count <= UInt64(ShipWelcome.lineageMax) else {
      throw .malformed("the chain of nodes is too long")
    }
    lineage = []
    for _ in 0..<count { lineage.append(try reader.databaseID()) }
    catalogue = try reader.databaseID()
  }
}

/// What a server has to tell of one database that is not followed at this moment.
public struct ShipNews: Equatable, Sendable {
  public enum Fact: Equatable, Sendable {
    /// There is no such database, or no more.
    case gone
    /// It stands there; nil when that is known only once it was opened.
    case there(Position?)
  }
  public var name: String
  public var fact: Fact

  public init(name: String, fact: Fact) {
    self.name = name
    self.fact = fact
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeCounted(Array(name.utf8))
    switch fact {
    case .gone: body.writeInteger(0 as UInt8)
    case .there(nil): body.writeInteger(1 as UInt8)
    case .there(let position?):
      body.writeInteger(2 as UInt8)
      body.writePosition(position)
    }
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    name = try reader.text(max: ShipTrunk.nameBytesMax)
    switch try reader.byte() {
    case 0: fact = .gone
    case 1: fact = .there(nil)
    case 2: fact = .there(try reader.position())
    default: throw .malformed("unknown news")
    }
  }
}

/// A follower begins to follow a database on a stream.
public struct ShipOpen: Equatable, Sendable {
  public var name: String
  public var join: ShipJoin

  public init(name: String, join: ShipJoin) {
    self.name = name
    self.join = join
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeCounted(Array(name.utf8))
    body.writeImmutableBuffer(join.encode())
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    name = try reader.text(max: ShipTrunk.nameBytesMax)
    join = try ShipJoin(decoding: reader.rest)
  }
}

/// A stream is over. Each side says so once; then its number is free.
public struct ShipEnd: Equatable, Sendable {
  public enum Reason: UInt8, Sendable {
    /// The database rests, the follower has all of it, and no request was taken that was not
    /// answered.
    case parked = 0
    case closed = 1
  }
  public var reason: Reason
  public var message: String

  public init(_ reason: Reason, _ message: String = "") {
    self.reason = reason
    self.message = message
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeReason(reason, message)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    (reason, message) = try reader.reason()
  }
}

/// The follower took so many more bytes of a stream.
public struct ShipWindow: Equatable, Sendable {
  public var bytes: UInt32
  public init(bytes: UInt32) { self.bytes = bytes }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(UInt64(bytes))
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    bytes = try reader.varint32()
  }
}
