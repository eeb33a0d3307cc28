// Cuts a stream of bytes into lines, with bounded memory, and tells early that it is not our
// protocol at all.
//
// A browser that is made to post SQL to our port must get nothing done: whatever looks like the
// first line or a header of an HTTP request ends the connection. The cut never depends on how the
// bytes were split on the way.
// Source: docs/PROTOCOL.md

import NIOCore

/// The incremental line splitter of one connection.
///
/// ```
/// framer.feed(bytes)
/// while let event = framer.next() { … }
/// ```
public struct LineFramer: Sendable {
  public enum Event: Equatable, Sendable {
    /// A line without its `\n` or `\r\n`, in the memory it arrived in if it arrived in one piece.
    case line(ByteBuffer)
    /// A line over the limit. The rest of it is skipped; what follows is read as usual.
    case tooLong
    /// Somebody speaks another protocol. Nothing comes after this: close the connection.
    case wrongProtocol(ForeignProtocol)
  }

  public static let lineBytesMaxDefault = 1 << 20

  /// What arrived last and has not been read.
  private var chunk = ByteBuffer()
  /// The beginning of a line whose end has not arrived; at most `lineBytesMax + 1` bytes.
  private var partial = ByteBuffer()
  private var state = State.reading
  private var hasEnded = false
  private let lineBytesMax: Int

  private enum State {
    case reading, skipping, closed
  }

  /// - Parameter lineBytesMax: the longest line, in bytes without its end; at least 256.
  public init(lineBytesMax: Int = Self.lineBytesMaxDefault) {
    self.lineBytesMax = max(lineBytesMax, 256)
  }

  /// How many bytes wait to be read with `next()`. When it grows, stop reading from the socket.
  public var waitingBytes: Int { chunk.readableBytes + partial.readableBytes }

  /// Takes what has arrived.
  public mutating func feed(_ bytes: ByteBuffer) {
    if state == .closed { return }
    if chunk.readableBytes == 0 {
      chunk = bytes
    } else {
      chunk.writeImmutableBuffer(bytes)
    }
  }

  /// Tells that nothing more will arrive: what has no line end yet is the last line.
  public mutating func finish() { hasEnded = true }

  /// What comes next in the stream; nil when more bytes are needed, or at its end.
  public mutating func next() -> Event? {
    switch state {
    case .closed: return nil
    case .skipping:
      guard let end = lineEnd() else {
        chunk = ByteBuffer()
        return nil
      }
      chunk.moveReaderIndex(forwardBy: end + 1)
      state = .reading
    case .reading: break
    }
    if let end = lineEnd() { return completeLine(upTo: end) }
    return incompleteLine()
  }

  /// How many bytes `chunk` has before its next `\n`.
  private func lineEnd() -> Int? {
    chunk.withUnsafeReadableBytes { bytes in
      let newlines = 0x0101_0101_0101_0101 &* UInt64(UInt8(ascii: "\n"))
      var at = 0
      while bytes.count - at >= 8 {
        // A byte that was `\n` is now zero; the lowest mark is the first of them.
        let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let zeros = word ^ newlines
        let marks = (zeros &- 0x0101_0101_0101_0101) & ~zeros & 0x8080_8080_8080_8080
        if marks != 0 { return at + marks.trailingZeroBitCount / 8 }
        at += 8
      }
      while at < bytes.count {
        if bytes[at] == UInt8(ascii: "\n") { return at }
        at += 1
      }
      return nil
    }
  }

  private mutating func completeLine(upTo end: Int) -> Event {
    var line = chunk
    line.moveWriterIndex(to: chunk.readerIndex + end)
    chunk.moveReaderIndex(forwardBy: end + 1)
    if partial.readableBytes > 0 {
      partial.writeImmutableBuffer(line)
      line = partial
      partial = ByteBuffer()
    }
    return checked(line)
  }

  private mutating func incompleteLine() -> Event? {
    // One more than the limit, as the last byte may be the `\r` of the line's end.
    guard partial.readableBytes + chunk.readableBytes <= lineBytesMax + 1 else {
      return overlongLine()
    }
    let last = takeUnended()
    if hasEnded { return last.readableBytes > 0 ? checked(last) : nil }
    // A TLS client waits for our answer, not for a line end.
    if last.readableBytesView.first == ForeignProtocol.tlsFirstByte { return close(.tls) }
    partial = last
    return nil
  }

  private mutating func overlongLine() -> Event {
    let start = takeUnended()
    let foreign = start.withUnsafeReadableBytes { ForeignProtocol($0, isWhole: false) }
    if let foreign { return close(foreign) }
    state = .skipping
    return .tooLong
  }

  private mutating func checked(_ line: ByteBuffer) -> Event {
    var line = line
    let (foreign, count) = line.withUnsafeReadableBytes { bytes in
      let count = bytes.last == UInt8(ascii: "\r") ? bytes.count - 1 : bytes.count
      return (ForeignProtocol(bytes, isWhole: count <= lineBytesMax), count)
    }
    if let foreign { return close(foreign) }
    guard count <= lineBytesMax else { return .tooLong }
    if count < line.readableBytes { line.moveWriterIndex(to: line.readerIndex + count) }
    return .line(line)
  }

  private mutating func close(_ foreign: ForeignProtocol) -> Event {
    state = .closed
    chunk = ByteBuffer()
    partial = ByteBuffer()
    return .wrongProtocol(foreign)
  }

  /// All bytes that have no line end. They are copied, so that a line that comes in pieces grows in
  /// memory of its own; only what comes in one piece stays where it is.
  private mutating func takeUnended() -> ByteBuffer {
    var line = partial
    partial = ByteBuffer()
    line.writeBuffer(&chunk)
    chunk = ByteBuffer()
    return line
  }
}
