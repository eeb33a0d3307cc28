// What a client can send to the line protocol, from bytes to requests, and the texts inside.

import NIOCore
import Serving
import WALShip

extension DecoderCheck {
  static let lineChecks = [
    DecoderCheck("lines", checkLines),
    DecoderCheck("json", checkJSON),
    DecoderCheck("base64", checkBase64),
    DecoderCheck("sql", checkSQL),
    DecoderCheck("token", checkToken),
  ]

  // MARK: Lines

  /// Lines and requests are the same however the stream is cut, and no more waits than a line may
  /// have.
  private static func checkLines(_ bytes: [UInt8]) throws {
    var input = InputReader(bytes)
    let step = Int(input.byte()) + 1
    let stream = Array(input.rest)
    let whole = try events(of: stream, step: max(1, stream.count))
    let cut = try events(of: stream, step: step)
    try require(cut == whole, "cut every \(step) bytes, other lines come out")
    for case .line(let line) in whole {
      guard let request = try? LineParser.parse(line) else { continue }
      if let id = request.id {
        try require(id.readableBytes <= LineParser.idBytesMax, "a long id")
      }
      if case .batch(let batch) = request.body {
        try require(batch.count <= line.readableBytes, "more statements than bytes")
      }
      let again = try? LineParser.parse(line)
      try require(again == request, "one line is two requests")
    }
  }

  private static let lineBytesMax = 256

  private static func events(of stream: [UInt8], step: Int) throws -> [LineFramer.Event] {
    var framer = LineFramer(lineBytesMax: lineBytesMax)
    var events: [LineFramer.Event] = []
    for start in stride(from: 0, to: stream.count, by: step) {
      framer.feed(ByteBuffer(bytes: stream[start..<min(start + step, stream.count)]))
      while let event = framer.next() { events.append(event) }
      try require(framer.waitingBytes <= lineBytesMax + 1, "\(framer.waitingBytes) bytes wait")
    }
    framer.finish()
    while let event = framer.next() { events.append(event) }
    return events
  }

  // MARK: JSON

  /// The tree and the reader that goes past values agree, and what is written is read as the same.
  private static func checkJSON(_ bytes: [UInt8]) throws {
    let limits = JSONValue.Limits(bytesMax: 1 << 16, valuesMax: 1000)
    let tree = bytes.withUnsafeBytes { try? JSONValue.parse($0, limits: limits) }
    let isValid = bytes.withUnsafeBytes { bytes in
      var reader = JSONReader(bytes)
      do {
        try reader.skipValue()
        try reader.end()
        return true
      } catch { return false }
    }
    // The reader has no limits, and does not care how large a number is.
    try require(tree == nil || isValid, "the tree takes what the reader refuses")
    guard let tree else { return }
    var output = OutputBytes()
    tree.write(into: &output)
    let text = output.string
    guard let again = try? JSONValue.parse(text) else {
      throw TestFailure("what was written is no JSON: \(text)")
    }
    var second = OutputBytes()
    again.write(into: &second)
    try require(second.string == text, "\(text) comes back as \(second.string)")
  }

  private static func checkBase64(_ bytes: [UInt8]) throws {
    for padding in [true, false] {
      let text = base64(bytes, padding: padding)
      let back = text.withUnsafeBytes { Base64.decode($0) }
      try require(back == bytes, "bytes come back as other ones")
    }
    guard let decoded = bytes.withUnsafeBytes({ Base64.decode($0) }) else { return }
    let isSame = [true, false].contains { base64(decoded, padding: $0) == bytes }
    try require(isSame, "two texts stand for the same bytes")
  }

  private static func base64(_ bytes: [UInt8], padding: Bool) -> [UInt8] {
    var output = OutputBytes()
    bytes.withUnsafeBytes { output.writeBase64($0, padding: padding) }
    return output.withBytes { Array($0) }
  }

  // MARK: SQL and tokens

  /// Statements lie one after the other, and the first ones are the same when the rest is missing.
  private static func checkSQL(_ bytes: [UInt8]) throws {
    let found = bytes.withUnsafeBytes { StatementScanner.scan($0) }
    let isBlank = bytes.withUnsafeBytes { StatementScanner.isBlank($0) }
    try require(
      isBlank == (found.statements.isEmpty && found.rest == nil), "blank, or not: \(found)")
    var end = 0
    for (index, range) in (found.statements + [found.rest].compactMap(\.self)).enumerated() {
      try require(range.lowerBound >= end && !range.isEmpty, "statements overlap: \(found)")
      try require(range.upperBound <= bytes.count, "a statement goes beyond the end: \(found)")
      end = range.upperBound
      guard index < found.statements.count else { break }
      let prefix = Array(bytes[..<end])
      let part = prefix.withUnsafeBytes { StatementScanner.scan($0) }
      let first = Array(found.statements[...index])
      try require(part.statements == first && part.rest == nil, "cut at \(end): \(part)")
    }
    let text = SQLText(bytes: ByteBuffer(bytes: bytes))
    try require(
      StatementScanner.statements(of: text).count
        == found.statements.count + (found.rest == nil ? 0 : 1), "a statement is lost")
    try require(StatementScanner.firstWords(of: text, 3).count <= 3, "too many words")
  }

  private static func checkToken(_ bytes: [UInt8]) throws {
    guard let token = Token(String(decoding: bytes, as: UTF8.self)) else { return }
    try require(Token(token.description) == token, "\(token) comes back as another one")
    try require(
      token.replicationIndex >> 40 == UInt64(token.epoch.rawValue) & 0xff_ffff, "\(token)")
  }
}
