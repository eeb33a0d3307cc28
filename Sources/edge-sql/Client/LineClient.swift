// A conversation with a node in the line protocol.
// Source: docs/PROTOCOL.md, the line protocol

import Serving

/// How commands reach a node.
struct ClientSettings: Sendable {
  var address: ServerAddress
  /// The credential, if one is configured.
  var auth: String?
  /// TLS; nil for plain text.
  var transport: (any TransportSecurity)?
  var connectMilliseconds = 5000
  var isInterruptible = false
}

/// One connection: requests go out, answers come back in the same order.
final class LineClient {
  let settings: ClientSettings
  /// The connection itself, for those who send and read on their own.
  let socket: LineSocket

  /// Connects, and presents the credential if there is one.
  init(_ settings: ClientSettings) throws {
    self.settings = settings
    socket = try LineSocket(
      settings.address, transport: settings.transport,
      timeoutMilliseconds: settings.connectMilliseconds)
    socket.isInterruptible = settings.isInterruptible
    if let auth = settings.auth {
      let line = JSONDocument.text(.members([("auth", .string(auth))]))
      _ = try request(line, timeoutMilliseconds: settings.connectMilliseconds)
    }
  }

  /// Sends one request line; `line` must not hold a line end.
  func send(_ line: String) throws(ClientError) {
    precondition(!line.utf8.contains(UInt8(ascii: "\n")), "a request is one line")
    try socket.send(Array(line.utf8) + [UInt8(ascii: "\n")])
  }

  /// Reads the next line, which may be a part of a stream. An error is returned, not thrown.
  func readAnswer(timeoutMilliseconds: Int? = nil) throws(ClientError) -> Answer {
    Answer(line: try socket.readLine(timeoutMilliseconds: timeoutMilliseconds))
  }

  /// Reads a whole answer.
  ///
  /// - Parameters:
  ///   - acceptsText: whether the answer may be something else than JSON, as that of `.help` may.
  ///   - each: gets every line of it, the last one too, as soon as it is there.
  /// - Returns: the last line.
  /// - Throws: a `ServerError` when the answer is one.
  @discardableResult
  func finish(
    timeoutMilliseconds: Int? = nil, acceptsText: Bool = false, each: (Answer) throws -> Void
  ) throws -> Answer {
    while true {
      let answer = try readAnswer(timeoutMilliseconds: timeoutMilliseconds)
      if let error = answer.error { throw error }
      guard answer.isJSON || acceptsText else {
        throw ClientError.malformedAnswer("\"\(answer.text.prefix(60))\"")
      }
      try each(answer)
      if !answer.hasMore { return answer }
    }
  }

  /// Sends a request and reads all of its answer.
  ///
  /// - Returns: the last line, and the rows of all lines.
  func request(
    _ line: String, timeoutMilliseconds: Int? = nil
  ) throws -> (last: Answer, rows: [[JSONValue]]) {
    try send(line)
    var rows: [[JSONValue]] = []
    let last = try finish(timeoutMilliseconds: timeoutMilliseconds) { part in
      rows += part.results.first?.rows ?? []
    }
    return (last, rows)
  }
}
