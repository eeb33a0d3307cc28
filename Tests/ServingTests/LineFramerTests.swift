// Lines are the same however the bytes arrive, and nothing else than lines gets through.

import NIOCore
import Serving
import Testing

@Suite struct LineFramerTests {
  /// The events of a stream that arrives in `pieces` and then ends.
  private func events(_ pieces: [[UInt8]], lineBytesMax: Int = 1 << 20) -> [String] {
    var framer = LineFramer(lineBytesMax: lineBytesMax)
    var events: [String] = []
    func drain() {
      while let event = framer.next() {
        switch event {
        case .line(let line): events.append("line " + String(buffer: line))
        case .tooLong: events.append("too long")
        case .wrongProtocol(let foreign): events.append("wrong \(foreign)")
        }
      }
    }
    for piece in pieces {
      framer.feed(ByteBuffer(bytes: piece))
      drain()
    }
    framer.finish()
    drain()
    return events
  }

  private func events(_ text: String) -> [String] { events([Array(text.utf8)]) }

  @Test func linesEndWithNewlineAndTheLastNeedsNone() {
    #expect(
      events("SELECT 1\r\n\n.ping\nSELECT\r 2")
        == ["line SELECT 1", "line ", "line .ping", "line SELECT\r 2"])
    #expect(events("SELECT 1\n") == ["line SELECT 1"])
    #expect(events("") == [])
  }

  @Test func linesThatArriveInOnePieceAreNotCopied() {
    let bytes = ByteBuffer(string: "first\nsecond\n")
    var framer = LineFramer()
    framer.feed(bytes)
    let address = bytes.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) }
    for offset in [UInt(0), 6] {
      guard case .line(let line)? = framer.next() else {
        Issue.record("a line was expected")
        return
      }
      #expect(line.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) } == address + offset)
    }
  }

  @Test func theSplitOfTheStreamDoesNotMatter() {
    let long = String(repeating: "x", count: 300)
    let streams = [
      "SELECT 1\r\n{\"id\":1}\n\n.quit\nlast", "\r\n\r\n\r", "a\n\(long)\nb\n\(long)\r\nc\(long)",
      "a\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{16}\u{3}\u{1}abc\n", "a\n\u{16}x",
      "DELETE FROM t\nDELETE /t HTTP/1.1\nx\n", "PUT \(long) HTTP/1.1\nSELECT 1\nhost: a\n",
      String(repeating: "y", count: 256) + "\r\n" + String(repeating: "z", count: 257) + "\n1",
    ]
    var random = LineTestRandom(seed: 6)
    for stream in streams {
      let bytes = Array(stream.utf8)
      let whole = events([bytes], lineBytesMax: 256)
      #expect(events(bytes.map { [$0] }, lineBytesMax: 256) == whole)
      for at in 0...bytes.count {
        #expect(events([Array(bytes[..<at]), Array(bytes[at...])], lineBytesMax: 256) == whole)
      }
      for _ in 0..<50 {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = Int.random(in: 1...min(40, rest.count), using: &random)
          pieces.append(Array(rest.prefix(count)))
          rest = rest.dropFirst(count)
        }
        #expect(events(pieces, lineBytesMax: 256) == whole)
      }
    }
  }

  @Test func anOverlongLineIsOneEventAndUsesBoundedMemory() {
    var framer = LineFramer(lineBytesMax: 1000)
    var found: [LineFramer.Event] = []
    for _ in 0..<1000 {
      framer.feed(ByteBuffer(repeating: UInt8(ascii: "x"), count: 500))
      while let event = framer.next() { found.append(event) }
      #expect(framer.waitingBytes <= 1001)
    }
    framer.feed(ByteBuffer(string: "\nSELECT 1\n"))
    while let event = framer.next() { found.append(event) }
    #expect(found == [.tooLong, .line(ByteBuffer(string: "SELECT 1"))])
  }

  @Test func theLimitCountsTheLineWithoutItsEnd() {
    let fits = String(repeating: "x", count: 256)
    for end in ["\n", "\r\n"] {
      #expect(events([Array((fits + end).utf8)], lineBytesMax: 256) == ["line \(fits)"])
      #expect(events([Array((fits + "x" + end).utf8)], lineBytesMax: 256) == ["too long"])
    }
  }

  @Test(arguments: [
    "GET / HTTP/1.1\r\n", "POST /v1/execute HTTP/1.1\n", "GET x\n", "PUT /a\n", "HEAD / HTTP/1.0\n",
    "DELETE /t HTTP/1.1\n", "OPTIONS * HTTP/1.1\n", "CONNECT a:443 HTTP/1.1\n",
    "PRI * HTTP/2.0\r\n", "Host: localhost\r\n", "host:x\n", "HOST: x", "User-Agent: x\n",
    "Content-Type: text/plain\n", "sec-fetch-mode: cors\n", "X-A: 1\n", "POST / HTTP/1.1",
  ])
  func whatLooksLikeHTTPEndsTheConnection(line: String) {
    #expect(events(line + "SELECT 1\n") == ["wrong http"])
    #expect(events("SELECT 1\n" + line + "\nSELECT 2\n") == ["line SELECT 1", "wrong http"])
  }

  @Test(arguments: [
    "DELETE FROM t", "DELETE FROM t WHERE a = 'HTTP/1.1'", "SELECT:a", "SELECT 1", "select 1",
    "DELETE", "GETX /", "explain select 1", "{\"sql\":\"GET /\"}", ".help", "PRAGMA x", "END",
    "CREATE TABLE Host(a)", "-- Host: a", "VALUES(1)", "get / HTTP/1.1",
  ])
  func sqlIsNotTakenForHTTP(line: String) {
    #expect(events(line + "\n") == ["line " + line])
  }

  @Test func tlsIsSeenWithItsFirstByte() {
    var framer = LineFramer()
    framer.feed(ByteBuffer(bytes: [0x16]))
    #expect(framer.next() == .wrongProtocol(.tls))
    framer.feed(ByteBuffer(string: "SELECT 1\n"))
    #expect(framer.next() == nil)
  }

  @Test func garbageNeverTraps() {
    var random = LineTestRandom(seed: 7)
    for _ in 0..<20_000 {
      var pieces: [[UInt8]] = []
      for _ in 0..<Int.random(in: 0..<4, using: &random) {
        pieces.append(
          random.bytes(countMax: 30).map { $0 < 40 ? UInt8(ascii: "\n") : $0 })
      }
      _ = events(pieces)
    }
  }
}
