// One connection of a load: it keeps a number of requests in flight and times each of them.

import Glibc

final class LoadConnection {
  private let socket: LineSocket
  private let nextRequest: () -> [UInt8]
  private let depth: Int
  /// When the requests in flight were sent, oldest first; a ring of `depth` places.
  private var sentNanoseconds: [UInt64]
  private var oldest = 0
  private var inFlight = 0
  /// What the socket has not taken yet.
  private var unsent: [UInt8] = []
  /// The beginning of a line whose end has not come.
  private var partialLine: [UInt8] = []

  private(set) var errors = 0
  /// The first error answer, for the report.
  private(set) var firstError: ServerError?

  var descriptor: Int32 { socket.descriptor }
  var isIdle: Bool { inFlight == 0 }
  var wantsToWrite: Bool { !unsent.isEmpty }

  /// - Parameter socket: connected, authenticated, and with no answer outstanding.
  init(_ socket: LineSocket, depth: Int, nextRequest: @escaping () -> [UInt8]) {
    self.socket = socket
    self.depth = depth
    self.nextRequest = nextRequest
    sentNanoseconds = [UInt64](repeating: 0, count: depth)
  }

  /// Sends until `depth` requests are in flight.
  func fill() throws(ClientError) {
    if inFlight < depth {
      let now = MonotonicClock.nowNanoseconds
      while inFlight < depth {
        unsent += nextRequest()
        sentNanoseconds[(oldest + inFlight) % depth] = now
        inFlight += 1
      }
    }
    try flush()
  }

  /// Sends what the socket takes without waiting.
  func flush() throws(ClientError) {
    guard !unsent.isEmpty else { return }
    let count = unsent.withUnsafeBytes {
      send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    if count > 0 {
      unsent.removeSubrange(..<count)
    } else if count < 0, errno != EAGAIN, errno != EINTR {
      throw .lost(socket.address, reason: errorText(errno))
    }
  }

  /// Reads what is there and records the answers that have come to their end.
  func receive(into times: inout Measurement) throws(ClientError) {
    let count = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { chunk in
      let count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
      if count > 0 { take(UnsafeRawBufferPointer(rebasing: chunk[..<count]), &times) }
      return count
    }
    if count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR)) { return }
    throw .lost(socket.address, reason: count == 0 ? "the node closed it" : errorText(errno))
  }

  private func take(_ bytes: UnsafeRawBufferPointer, _ times: inout Measurement) {
    let now = MonotonicClock.nowNanoseconds
    var start = 0
    while start < bytes.count, let end = Self.lineEnd(bytes, from: start) {
      let line = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
      if partialLine.isEmpty {
        finishLine(line, now, &times)
      } else {
        partialLine += line
        partialLine.withUnsafeBytes { finishLine($0, now, &times) }
        partialLine.removeAll(keepingCapacity: true)
      }
      start = end + 1
    }
    if start < bytes.count { partialLine += bytes[start...] }
  }

  private func finishLine(
    _ line: UnsafeRawBufferPointer, _ now: UInt64, _ times: inout Measurement
  ) {
    // Inside a JSON string the quotation marks would be escaped: this can only be the member
    // itself.
    if Self.contains(line, "\"more\":true") || inFlight == 0 { return }
    if Self.contains(line, "{\"error\":") {
      errors += 1
      firstError = firstError ?? Answer(line: Array(line)).error
    } else {
      times.record(nanoseconds: now - sentNanoseconds[oldest])
    }
    oldest = (oldest + 1) % depth
    inFlight -= 1
  }

  private static func lineEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = bytes.baseAddress, let found = memchr(base + start, 10, bytes.count - start)
    else { return nil }
    return UnsafeRawPointer(found) - base
  }

  private static func contains(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
    guard let base = bytes.baseAddress else { return false }
    let length = text.utf8CodeUnitCount
    var at = 0
    while bytes.count - at >= length,
      let found = memchr(base + at, Int32(text.utf8Start[0]), bytes.count - at - length + 1)
    {
      if memcmp(found, text.utf8Start, length) == 0 { return true }
      at = UnsafeRawPointer(found) - base + 1
    }
    return false
  }
}
