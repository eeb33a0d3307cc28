// How a follower of many databases asks the primary to make, copy or remove one. Both travel on the
// stream of the link itself.

import NIOCore

/// A client of a follower wants to change which databases there are.
public struct ShipChange: Equatable, Sendable {
  public enum Act: Equatable, Sendable {
    case create(String)
    case drop(String)
    case fork(String, to: String)
  }

  /// Names the change on this link until it is answered.
  public var number: UInt64
  public var act: Act
  /// Nobody has asked the client who it is.
  public var isAnonymous: Bool

  /// The most that may wait for an answer on one link.
  public static let waitingMax = 64

  public init(number: UInt64, act: Act, isAnonymous: Bool) {
    self.number = number
    self.act = act
    self.isAnonymous = isAnonymous
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(number)
    body.writeInteger(isAnonymous ? 1 : 0 as UInt8)
    let (kind, names): (UInt8, [String]) =
      switch act {
      case .create(let name): (0, [name])
      case .drop(let name): (1, [name])
      case .fork(let source, let name): (2, [source, name])
      }
    body.writeInteger(kind)
    for name in names { body.writeCounted(Array(name.utf8)) }
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    number = try reader.varint()
    isAnonymous = try reader.byte() & 1 != 0
    let kind = try reader.byte()
    let name = try reader.text(max: ShipTrunk.nameBytesMax)
    switch kind {
    case 0: act = .create(name)
    case 1: act = .drop(name)
    case 2: act = .fork(name, to: try reader.text(max: ShipTrunk.nameBytesMax))
    default: throw .malformed("an unknown change")
    }
  }
}

/// What became of a change.
public struct ShipChanged: Equatable, Sendable {
  /// Why it was not made, as its client is told.
  public struct Failure: Equatable, Sendable {
    public var code: String
    public var message: String
    public var retry: Bool

    public init(code: String, message: String, retry: Bool) {
      self.code = code
      self.message = message
      self.retry = retry
    }
  }

  public var number: UInt64
  /// Nil when the change is durable at the primary.
  public var failure: Failure?

  private static let codeBytesMax = 64
  private static let messageBytesMax = 1000

  public init(number: UInt64, failure: Failure?) {
    self.number = number
    self.failure = failure
  }

  public func encode() -> ByteBuffer {
    var body = ByteBuffer()
    body.writeVarint(number)
    guard let failure else {
      body.writeInteger(0 as UInt8)
      return body
    }
    body.writeInteger(failure.retry ? 2 : 1 as UInt8)
    body.writeCounted(Array(failure.code.utf8.prefix(Self.codeBytesMax)))
    body.writeCounted(Array(failure.message.utf8.prefix(Self.messageBytesMax)))
    return body
  }

  public init(decoding body: ByteBuffer) throws(ShipProtocolError) {
    var reader = ShipBody(body)
    number = try reader.varint()
    let outcome = try reader.byte()
    guard outcome != 0 else { return }
    guard outcome <= 2 else { throw .malformed("an unknown outcome") }
    // A text that was cut may end within a character.
    let code = String(decoding: try reader.counted(max: Self.codeBytesMax), as: UTF8.self)
    let message = String(decoding: try reader.counted(max: Self.messageBytesMax), as: UTF8.self)
    failure = Failure(code: code, message: message, retry: outcome == 2)
  }
}
