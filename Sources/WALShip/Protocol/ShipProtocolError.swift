// Why a ship connection ends.

/// A fault in what the other node sent. The connection is closed; nothing of the faulty message was
/// used.
public enum ShipProtocolError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The bytes are no message of this protocol.
  case malformed(String)
  /// A message's checksum does not hold: a bit was flipped on the way.
  case damaged
  /// A length above what any message may have.
  case tooLong(Int)
  /// A message that has no place at this point of the conversation.
  case unexpected(String)

  public var description: String {
    switch self {
    case .malformed(let reason): "malformed message: \(reason)"
    case .damaged: "a message was damaged on the way"
    case .tooLong(let length): "a message of \(length) bytes is too long"
    case .unexpected(let reason): "unexpected message: \(reason)"
    }
  }
}
