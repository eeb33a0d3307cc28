// What a client asks, whatever protocol it speaks: the line protocol and HTTP are thin shells over
// these types.

import NIOCore
import Store
import WALShip

/// SQL as it arrived: bytes, not yet known to be valid, compared and hashed by content.
public struct SQLText: Hashable, Sendable, CustomStringConvertible {
  public var bytes: ByteBuffer
  @inlinable public init(bytes: ByteBuffer) { self.bytes = bytes }
  public init(_ text: String) { self.bytes = ByteBuffer(string: text) }
  public var description: String { String(buffer: bytes) }
}

/// The values for the parameters of a statement.
public enum Arguments: Equatable, Sendable {
  case none
  case positional([Value])
  /// Names come with or without their prefix (`:`, `@` or `$`).
  case named([NamedValue])

  public struct NamedValue: Equatable, Sendable {
    public var name: String
    public var value: Value
    public init(name: String, value: Value) {
      self.name = name
      self.value = value
    }
  }
}

/// One statement with its arguments.
public struct StatementRequest: Equatable, Sendable {
  public var sql: SQLText
  public var arguments: Arguments
  public init(sql: SQLText, arguments: Arguments = .none) {
    self.sql = sql
    self.arguments = arguments
  }
}

/// Where a read may run.
public enum ReadMode: Equatable, Sendable {
  /// Here, as soon as this node has reached the token.
  case local
  /// Here, if the last contact with the primary is at most this old.
  case bounded(maxLagMilliseconds: Int)
  /// Here, once this node has reached the position that the primary has now.
  case latest
  /// On the primary.
  case primary
}

/// What happens when this node does not reach a token in time.
public enum LagPolicy: Equatable, Sendable {
  case forward, error, stale
}

/// What a request may say beside its SQL.
public struct RequestOptions: Equatable, Sendable {
  public var token: Token?
  public var read = ReadMode.local
  /// Nil: the server's default of one second.
  public var waitMilliseconds: Int?
  public var lagPolicy = LagPolicy.forward
  public var idempotencyKey: String?
  public var timeoutMilliseconds: Int?
  public var database: String?
  public init() {}
}
