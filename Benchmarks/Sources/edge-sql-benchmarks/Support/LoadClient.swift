// Many connections with many requests in flight, driven by one thread that only copies ready-made bytes out and counts
// line ends in what comes back.

import Glibc
import Store

/// The requests of one connection: lines that are sent in turn, again and again.
struct RequestTape {
  let bytes: [UInt8]
  /// Where each line begins, and the end of the last.
  let offsets: [Int]
  var count: Int { offsets.count - 1 }

  init(lines count: Int, line: (Int) -> String) {
    var bytes: [UInt8] = []
    var offsets = [0]
    for index in 0..<count {
      bytes += line(index).utf8
      bytes.append(UInt8(ascii: "\n"))
      offsets.append(bytes.count)
    }
    self.bytes = bytes
    self.offsets = offsets
  }
}

/// Keeps a number of requests in flight on each of its connections.
final class LoadClient {
  /// When a run ends; answers that are outstanding then are waited for.
  enum End { case seconds(Double), requests(Int) }

  struct Load {
    var answers = 0
    var nanoseconds: UInt64 = 0
    /// From sending to receiving, one for each answer; only with one request in flight on each connection.
    var times: [UInt64] = []
    var perSecond: Double { Double(answers) / (Double(nanoseconds) / 1e9) }
  }

  private final class Lane {
    let socket: ClientSocket
    let tape: RequestTape
    var next = 0
    var inFlight = 0
    var sentNanoseconds: UInt64 = 0
    init(_ socket: ClientSocket, _ tape: RequestTape) {
      self.socket = socket
      self.tape = tape
    }
  }

  private let lanes: [Lane]
  /// What every line that comes back begins with; empty for an echo.
  private let expected: [UInt8]

  init(port: Int, expected: String, tapes: [RequestTape]) throws {
    self.expected = Array(expected.utf8)
    lanes = try tapes.map { Lane(try ClientSocket(port: port), $0) }
  }

  func run(until end: End, inFlight depth: Int) throws -> Load {
    var load = Load()
    var sent = 0
    let start = monotonicNanoseconds()
    var deadline = UInt64.max
    var requestsMax = Int.max
    switch end {
    case .seconds(let seconds): deadline = start + UInt64(seconds * 1e9)
    case .requests(let count): requestsMax = count
    }
    var now = start
    var polls = lanes.map { pollfd(fd: $0.socket.descriptor, events: Int16(POLLIN), revents: 0) }
    for lane in lanes { try fill(lane, depth, now, requestsMax, &sent) }
    while lanes.contains(where: { $0.inFlight > 0 }) {
      guard poll(&polls, nfds_t(polls.count), 30_000) > 0 else {
        throw Failure("no answer for 30 s")
      }
      for (index, lane) in lanes.enumerated() where polls[index].revents != 0 {
        try lane.socket.receive { bytes in
          now = monotonicNanoseconds()
          let count = try answers(in: bytes, lane)
          load.answers += count
          lane.inFlight -= count
          if depth == 1, count == 1 { load.times.append(now - lane.sentNanoseconds) }
        }
        if now < deadline { try fill(lane, depth, now, requestsMax, &sent) }
      }
    }
    load.nanoseconds = now - start
    return load
  }

  private func fill(
    _ lane: Lane, _ depth: Int, _ now: UInt64, _ requestsMax: Int, _ sent: inout Int
  ) throws {
    while lane.inFlight < depth, sent < requestsMax {
      let count = min(depth - lane.inFlight, lane.tape.count - lane.next, requestsMax - sent)
      let range = lane.tape.offsets[lane.next]..<lane.tape.offsets[lane.next + count]
      try lane.tape.bytes.withUnsafeBytes {
        try lane.socket.send(UnsafeRawBufferPointer(rebasing: $0[range]))
      }
      lane.next = (lane.next + count) % lane.tape.count
      lane.inFlight += count
      sent += count
    }
    lane.sentNanoseconds = now
  }

  /// Counts the lines that end in `bytes`, and looks at the beginning of those that begin in it.
  private func answers(in bytes: UnsafeRawBufferPointer, _ lane: Lane) throws -> Int {
    guard let base = bytes.baseAddress else { return 0 }
    var count = 0
    var start = 0
    while let end = memchr(base + start, 10, bytes.count - start) {
      let next = UnsafeRawPointer(end) - base + 1
      // The first line may have begun in an earlier piece.
      if start > 0 || lane.inFlight == 1, next - start > expected.count,
        memcmp(base + start, expected, expected.count) != 0
      {
        let line = UnsafeRawBufferPointer(rebasing: bytes[start..<next])
        throw Failure("not the answer that was expected: \(String(decoding: line, as: UTF8.self))")
      }
      count += 1
      start = next
    }
    return count
  }
}
