// What a client of `/pull-updates` sends and gets, written by itself: the node's own code for these
// messages is what is tested.
// Source: docs/SYNC.md

import Serving

/// A request of `/pull-updates`.
public struct PullUpdatesAsk {
  public var serverRevision = ""
  public var clientRevision = ""
  public var waitMilliseconds: UInt64 = 0
  public var pages: [UInt8] = []
  public var query = ""

  public init(since clientRevision: String = "", waitMilliseconds: UInt64 = 0) {
    self.clientRevision = clientRevision
    self.waitMilliseconds = waitMilliseconds
  }

  private var body: [UInt8] {
    var body: [UInt8] = []
    func write(_ number: UInt64) {
      var rest = number
      while rest >= 0x80 {
        body.append(UInt8(truncatingIfNeeded: rest) | 0x80)
        rest >>= 7
      }
      body.append(UInt8(rest))
    }
    for (field, bytes) in [
      (2, Array(serverRevision.utf8)), (3, Array(clientRevision.utf8)), (5, pages),
      (7, Array(query.utf8)),
    ] where !bytes.isEmpty {
      body.append(UInt8(field << 3 | 2))
      write(UInt64(bytes.count))
      body += bytes
    }
    if waitMilliseconds > 0 {
      body.append(4 << 3)
      write(waitMilliseconds)
    }
    return body
  }

  /// Sends it, without waiting for the answer.
  public func send(_ client: HTTPClient, headers: [String] = []) throws {
    let body = body
    let lines =
      ["POST /pull-updates HTTP/1.1", "Host: localhost", "Content-Length: \(body.count)"]
      + headers
    try client.send(bytes: Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) + body)
  }

  /// Sends it, and takes the answer apart.
  public func callAsFunction(_ client: HTTPClient) throws -> PullUpdatesReply {
    try send(client)
    return try PullUpdatesReply(client.answer())
  }
}

/// An answer to it.
public struct PullUpdatesReply {
  public var revision = ""
  public var pageCount = 0
  /// By their numbers from 0.
  public var pages: [Int: [UInt8]] = [:]

  /// - Throws: the status, when the node refuses.
  public init(_ message: HTTPMessage) throws {
    guard message.status == 200 else {
      throw EmbeddedCopy.Refused(
        status: message.status, description: "\(message.status): \(message.text)")
    }
    var rest = message.body[...]
    let header = try Self.message(&rest)
    revision = String(decoding: header.bytes[1] ?? [], as: UTF8.self)
    pageCount = header.numbers[2] ?? 0
    while !rest.isEmpty {
      let page = try Self.message(&rest)
      let number = page.numbers[1] ?? 0
      guard pages[number] == nil, let bytes = page.bytes[2],
        bytes.count == EmbeddedCopy.pageBytes
      else { throw TestFailure("page \(number) comes twice, or is none") }
      pages[number] = Array(bytes)
    }
  }

  private static func message(
    _ bytes: inout ArraySlice<UInt8>
  ) throws -> (numbers: [Int: Int], bytes: [Int: ArraySlice<UInt8>]) {
    var body = try part(&bytes)
    var found: (numbers: [Int: Int], bytes: [Int: ArraySlice<UInt8>]) = ([:], [:])
    while !body.isEmpty {
      let key = try number(&body)
      if key & 7 == 0 {
        found.numbers[key >> 3] = try number(&body)
      } else {
        found.bytes[key >> 3] = try part(&body)
      }
    }
    return found
  }

  private static func part(_ bytes: inout ArraySlice<UInt8>) throws -> ArraySlice<UInt8> {
    let count = try number(&bytes)
    guard count <= bytes.count else { throw TestFailure("a message is cut short") }
    defer { bytes = bytes.dropFirst(count) }
    return bytes.prefix(count)
  }

  private static func number(_ bytes: inout ArraySlice<UInt8>) throws -> Int {
    var value = 0
    for shift in stride(from: 0, to: 63, by: 7) {
      guard let byte = bytes.popFirst() else { throw TestFailure("a number is cut short") }
      value |= Int(byte & 0x7f) << shift
      if byte < 0x80 { return value }
    }
    throw TestFailure("a number is too long")
  }
}
