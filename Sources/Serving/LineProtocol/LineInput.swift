// What has arrived on a connection and is not yet being worked on. Lines are cut and understood
// only when it is their turn, so that a long pipeline costs its bytes and nothing else.

import DequeModule
import NIOCore

/// The waiting input of one connection.
struct LineInput {
  enum Item {
    case request(LineRequest)
    /// A line that could not be understood.
    case failed(LineParseFailure)
    case wrongProtocol(ForeignProtocol)
  }

  private var framer: LineFramer
  private var chunks = Deque<ByteBuffer>()
  private var chunkBytes = 0
  private var hasEnded = false
  private var isFinished = false
  private let lineBytesMax: Int
  /// Goes up with each whole line, so that it can be seen that one takes too long.
  private(set) var lineCount: UInt64 = 0

  init(lineBytesMax: Int) {
    self.lineBytesMax = lineBytesMax
    framer = LineFramer(lineBytesMax: lineBytesMax)
  }

  var waitingBytes: Int { chunkBytes + framer.waitingBytes }
  /// Whether there may be another line already.
  var hasMore: Bool { framer.waitingBytes > 0 || !chunks.isEmpty }

  mutating func append(_ chunk: ByteBuffer) {
    chunkBytes += chunk.readableBytes
    chunks.append(chunk)
  }

  /// Nothing more will arrive.
  mutating func end() { hasEnded = true }

  /// Everything that arrived has been taken, and nothing more will come.
  var isAtEnd: Bool { isFinished && !hasMore }

  /// Forgets what waits.
  mutating func removeAll() {
    framer = LineFramer(lineBytesMax: lineBytesMax)
    chunks.removeAll()
    chunkBytes = 0
  }

  /// The next line that needs an answer; nil when there is no whole line.
  mutating func next() -> Item? {
    while let event = nextEvent() {
      lineCount += 1
      switch event {
      case .line(let line):
        do throws(LineParseFailure) {
          if let request = try LineParser.parse(line) { return .request(request) }
        } catch {
          return .failed(error)
        }
      case .tooLong:
        return .failed(
          LineParseFailure(
            error: RequestError(
              .lineTooLong, "the line has more than \(lineBytesMax) bytes and was skipped")))
      case .wrongProtocol(let foreign): return .wrongProtocol(foreign)
      }
    }
    return nil
  }

  private mutating func nextEvent() -> LineFramer.Event? {
    while true {
      if let event = framer.next() { return event }
      if let chunk = chunks.popFirst() {
        chunkBytes -= chunk.readableBytes
        framer.feed(chunk)
      } else {
        guard hasEnded, !isFinished else { return nil }
        isFinished = true
        framer.finish()
      }
    }
  }
}
