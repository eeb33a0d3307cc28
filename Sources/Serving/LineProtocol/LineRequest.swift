// One line of the line protocol, understood.

import NIOCore

/// What a client asks with one line.
public struct LineRequest: Equatable, Sendable {
  /// The JSON text of the scalar that goes back with the answer, byte for byte.
  public var id: ByteBuffer?
  public var body: Body
  public var options: RequestOptions

  public enum Body: Equatable, Sendable {
    /// A line of SQL: one statement, or several separated by `;`.
    case script(SQLText)
    case statement(StatementRequest)
    /// One transaction, all or nothing.
    case batch([StatementRequest])
    /// A line that begins with a point; `name` is without it.
    case command(name: String, arguments: [String])
    case authenticate(String)
    /// A JSON object that asks for nothing.
    case none
  }

  public init(id: ByteBuffer? = nil, body: Body, options: RequestOptions = RequestOptions()) {
    self.id = id
    self.body = body
    self.options = options
  }
}

/// A line that could not be understood. The session answers with the error and goes on.
public struct LineParseFailure: Error, Equatable, Sendable {
  public var error: RequestError
  /// The id of the line, if one could be found in it.
  public var id: ByteBuffer?

  public init(error: RequestError, id: ByteBuffer? = nil) {
    self.error = error
    self.id = id
  }
}
