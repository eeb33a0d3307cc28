// Many requests at once: one thread drives all connections, so that the node has the other cores.

import Glibc
import Serving

struct LoadBench {
  struct Result {
    var times = Measurement()
    var errors = 0
    var firstError: ServerError?
    /// From the first request to the last answer.
    var nanoseconds: UInt64 = 0
    var interrupted = false

    var perSecond: Double {
      nanoseconds == 0 ? 0 : Double(times.count) / (Double(nanoseconds) / 1e9)
    }
  }

  /// What is measured, for the live line.
  var name: String
  var seconds: Double

  /// How long answers may take that are outstanding when the time is over.
  private static let drainNanoseconds: UInt64 = 10_000_000_000

  /// Connects, and keeps all connections busy.
  ///
  /// - Parameters:
  ///   - token: what every connection must see before it begins.
  ///   - nextRequest: makes the request lines, each with its line end.
  func run(
    _ settings: ClientSettings, connections: Int, depth: Int, token: String?,
    nextRequest: @escaping () -> [UInt8]
  ) throws -> Result {
    var clients: [LineClient] = []
    for _ in 0..<connections {
      let client = try LineClient(settings)
      if let token {
        var options = RequestLineOptions()
        options.token = token
        options.waitMilliseconds = 10_000
        _ = try client.request(RequestLine.statement("SELECT 1", options: options))
      }
      clients.append(client)
    }
    return try run(
      clients.map { LoadConnection($0.socket, depth: depth, nextRequest: nextRequest) })
  }

  private func run(_ connections: [LoadConnection]) throws -> Result {
    var result = Result()
    let start = MonotonicClock.nowNanoseconds
    var end = start + UInt64(seconds * 1e9)
    var live = LiveView(name)
    defer { live.end() }
    for connection in connections { try connection.fill() }
    while true {
      let now = MonotonicClock.nowNanoseconds
      if Interrupt.take() {
        // The second Ctrl-C does not wait for the answers either.
        if result.interrupted { break }
        result.interrupted = true
        end = min(end, now)
      }
      let isOver = now >= end
      if isOver, connections.allSatisfy(\.isIdle) || now - end >= Self.drainNanoseconds { break }
      try step(connections, refills: !isOver, &result.times)
      live.show(result.times, done: min(1, Double(now - start) / (seconds * 1e9)))
    }
    result.nanoseconds = MonotonicClock.nowNanoseconds - start
    result.errors = connections.reduce(0) { $0 + $1.errors }
    result.firstError = connections.lazy.compactMap(\.firstError).first
    return result
  }

  /// Waits for sockets and serves those that are ready.
  private func step(
    _ connections: [LoadConnection], refills: Bool, _ times: inout Measurement
  ) throws {
    var requests = connections.map { connection in
      let events = POLLIN | (connection.wantsToWrite ? POLLOUT : 0)
      return pollfd(fd: connection.descriptor, events: Int16(events), revents: 0)
    }
    guard poll(&requests, nfds_t(requests.count), 100) > 0 else { return }
    for (connection, request) in zip(connections, requests) where request.revents != 0 {
      if request.revents & Int16(POLLOUT) != 0 { try connection.flush() }
      if request.revents & Int16(POLLIN | POLLERR | POLLHUP) != 0 {
        try connection.receive(into: &times)
        if refills { try connection.fill() }
      }
    }
  }
}

extension LoadBench.Result {
  func text(connections: Int, depth: Int) -> String {
    var table = MeasurementTable()
    table.add("answered in", times)
    let time = DurationText.text(nanoseconds: nanoseconds)
    var text =
      "\(grouped(Int(perSecond.rounded()))) requests per second: \(grouped(times.count)) in "
    text += "\(time), \(connections) connections, \(depth) in flight on each\n\n\(table.text)"
    if let firstError {
      text += "\n\(grouped(errors)) errors; the first: \(firstError.failure.message)\n"
    }
    return text
  }

  func json(kind: String, connections: Int, depth: Int) -> JSONValue {
    .members([
      ("bench", .string(kind)), ("connections", .integer(Int64(connections))),
      ("depth", .integer(Int64(depth))), ("seconds", .real(Double(nanoseconds / 1_000_000) / 1000)),
      ("requests", .integer(Int64(times.count))), ("per_second", .real(perSecond.rounded())),
      ("errors", .integer(Int64(errors))),
      ("first_error", firstError.map { .string($0.failure.message) } ?? .null),
      ("interrupted", .bool(interrupted)), ("times", times.json),
    ])
  }
}
