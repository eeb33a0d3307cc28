// The first four messages of a connection: versions and nonces, proofs of a shared secret both
// ways, and who stands where. The proofs are computed by whoever owns the secret; here is only what
// they cover.

import NIOCore

/// Protocol versions that this release speaks, for each sort of link.
public enum ShipProtocolVersion {
  /// Links with one database.
  public static let single: ClosedRange<UInt16> = 1...1
  /// Links with many databases.
  public static let many: ClosedRange<UInt16> = 2...2

  /// The highest version that both sides speak; nil when there is none.
  public static func choose(
    lowest: UInt16, highest: UInt16, of ours: ClosedRange<UInt16> = single
  ) -> UInt16? {
    let version = min(highest, ours.upperBound)
    return version >= max(lowest, ours.lowerBound) ? version : nil
  }
}

public struct ShipHello: Equatable, Sendable {
  private static let magic: UInt64 = 0x3150_4948_5347_4445  // "EDGSHIP1"
  public static let nonceBytes = 32
  public var lowestVersion: UInt16
  public var highestVersion: UInt16
  public var nonce: [UInt8]

  public init(nonce: [UInt8], versions: ClosedRange<UInt16> = ShipProtocolVersion.single) {
    lowestVersion = versions.lowerBound
    highestVersion = versions.upperBound
    self.nonce = nonce
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeInteger(Self.magic, endianness: .little)
    body.writeVarint(UInt64(lowestVersion))
    body.writeVarint(UInt64(highestVersion))
    body.writeBytes(nonce)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    guard try reader.fixed64() == Self.magic else { throw .malformed("this is no edge-sql node") }
    lowestVersion = try reader.varint16()
    highestVersion = try reader.varint16()
    nonce = try reader.bytes(Self.nonceBytes)
  }
}

public struct ShipChallenge: Equatable, Sendable {
  public var version: UInt16
  public var nonce: [UInt8]
  /// Empty when the server has no secret.
  public var proof: [UInt8]

  public init(version: UInt16, nonce: [UInt8], proof: [UInt8]) {
    self.version = version
    self.nonce = nonce
    self.proof = proof
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(UInt64(version))
    body.writeBytes(nonce)
    body.writeCounted(proof)
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    version = try reader.varint16()
    nonce = try reader.bytes(ShipHello.nonceBytes)
    proof = try reader.counted(max: 64)
  }
}

/// Who a node is, as it tells its neighbours.
public struct NodeIdentity: Equatable, Sendable {
  /// Drawn at each start; tells loops.
  public var id: DatabaseID
  public var name: String
  public var software: String
  public var sqlite: String

  public init(id: DatabaseID, name: String, software: String, sqlite: String) {
    self.id = id
    self.name = name
    self.software = software
    self.sqlite = sqlite
  }
}

public struct ShipJoin: Equatable, Sendable {
  public enum Want: UInt8, Sendable {
    /// Everything: the follower has no database.
    case copy = 0
    /// What came after its position.
    case follow = 1
    /// A comparison of all pages: its position says nothing about them.
    case compare = 2
  }

  public var node: NodeIdentity
  public var want: Want
  public var position: Position
  /// The latest epoch that the follower knows of, which can be later than that of its position.
  public var seen: Epoch
  /// 0 when the follower has no database.
  public var pageSize: UInt32

  public init(
    node: NodeIdentity, want: Want, position: Position, seen: Epoch? = nil, pageSize: UInt32
  ) {
    self.node = node
    self.want = want
    self.position = position
    self.seen = max(seen ?? position.epoch, position.epoch)
    self.pageSize = pageSize
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeNode(node)
    body.writeInteger(want.rawValue)
    body.writePosition(position)
    body.writeVarint(UInt64(seen.rawValue))
    body.writeVarint(UInt64(pageSize))
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    node = try reader.node()
    guard let want = Want(rawValue: try reader.byte()) else { throw .malformed("unknown wish") }
    self.want = want
    position = try reader.position()
    seen = try reader.epoch()
    pageSize = try reader.varint32()
  }
}

public struct ShipWelcome: Equatable, Sendable {
  public enum Plan: UInt8, Sendable {
    /// Live transactions from the follower's position on, or pages and then those.
    case follow = 0
    /// All pages.
    case copy = 1
    /// The follower sends checksums, of the pages in `scope`, and gets those that differ.
    case compare = 2
  }

  public var node: NodeIdentity
  /// The nodes from the primary down to this one.
  public var lineage: [DatabaseID]
  public var plan: Plan
  /// Which checksums a comparison needs.
  public var scope: FollowerPages.Scope
  public var position: Position
  public var history: EpochHistory
  public var pageSize: UInt32
  public var pageCount: UInt32

  public init(
    node: NodeIdentity, lineage: [DatabaseID], plan: Plan, scope: FollowerPages.Scope = .all,
    position: Position, history: EpochHistory, pageSize: UInt32, pageCount: UInt32
  ) {
    self.node = node
    self.lineage = lineage
    self.plan = plan
    self.scope = scope
    self.position = position
    self.history = history
    self.pageSize = pageSize
    self.pageCount = pageCount
  }

  public static let lineageMax = 64

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeNode(node)
    body.writeVarint(UInt64(lineage.count))
    for id in lineage { body.writeDatabaseID(id) }
    body.writeInteger(plan.rawValue)
    body.writeScope(scope)
    body.writePosition(position)
    body.writeHistory(history)
    body.writeVarint(UInt64(pageSize))
    body.writeVarint(UInt64(pageCount))
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    node = try reader.node()
    let count = try reader.varint()
    guard count <= Self.lineageMax else { throw .malformed("the chain of nodes is too long") }
    lineage = []
    for _ in 0..<count { lineage.append(try reader.databaseID()) }
    guard let plan = Plan(rawValue: try reader.byte()) else { throw .malformed("unknown plan") }
    self.plan = plan
    scope = try reader.scope()
    position = try reader.position()
    history = try reader.history()
    pageSize = try reader.varint32()
    pageCount = try reader.varint32()
  }
}

/// Why a server will not serve a follower.
public struct ShipRefusal: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Reason: UInt8, Sendable {
    case version = 1
    case authentication = 2
    case otherDatabase = 3
    case loop = 4
    case pageSize = 5
    case notReady = 6
    case overloaded = 7
    case olderHistory = 8
    /// A page of this node is damaged, and there is nobody to repair it.
    case damaged = 9
  }
  public var reason: Reason
  public var message: String
  public init(_ reason: Reason, _ message: String) {
    self.reason = reason
    self.message = message
  }
  public var description: String { message }

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
