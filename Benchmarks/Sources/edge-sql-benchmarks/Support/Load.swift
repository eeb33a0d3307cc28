// The load generator of CLoad, for Swift.

import CLoad
import Glibc
import Store
import Synchronization

/// Connections that send ready-made requests.
final class Load: Sendable {
  /// What a run gave.
  struct Result: Sendable {
    var answers = 0
    var nanoseconds: UInt64 = 0
    var times: [UInt64] = []
    /// CPU time of the server, of which the client's is no part.
    var serverSeconds = 0.0
    var perSecond: Double { Double(answers) / (Double(nanoseconds) / 1e9) }
    /// CPU time of the server for one request, in microseconds.
    var serverMicroseconds: Double { serverSeconds * 1e6 / Double(max(1, answers)) }
    var p50p99: [Double] { Timing.p50p99(times) }
  }

  // Safe: one thread runs it at a time; `load_stop` alone comes from another, and writes an atomic.
  private nonisolated(unsafe) let load: OpaquePointer

  /// - Parameters:
  ///   - requests: complete ones, with their line ends or headers.
  ///   - expected: what every answer holds.
  init(
    port: Int, connections: Int, http: Bool = false, requests: [String], expected: String
  ) throws {
    var tape: [UInt8] = []
    var offsets = [0]
    for request in requests {
      tape += request.utf8
      offsets.append(tape.count)
    }
    guard
      let load = load_open(
        Int32(port), Int32(connections), http ? LOAD_HTTP : LOAD_LINES, tape, offsets,
        requests.count, expected)
    else { throw Failure("port \(port) cannot be connected to \(connections) times") }
    self.load = load
  }

  deinit { load_close(load) }

  /// - Parameters:
  ///   - requests: 0 for as many as the time allows.
  ///   - perSecond: 0 for as many as are answered.
  ///   - server: whose CPU time is told.
  func run(
    depth: Int = 1, seconds: Double = 0, requests: Int = 0, perSecond: Double = 0,
    server: ChildProcess? = nil
  ) throws -> Result {
    var raw = load_result()
    let before = server?.cpuSeconds ?? 0
    let code = load_run(load, Int32(depth), seconds, UInt64(requests), perSecond, &raw)
    defer { load_free_times(&raw) }
    guard code == 0 else { throw Failure("load: \(String(cString: strerror(code)))") }
    guard raw.unexpected == 0 else {
      let first = withUnsafeBytes(of: raw.first_unexpected) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      throw Failure("\(raw.unexpected) answers were not as expected, the first: \(first)")
    }
    return Result(
      answers: Int(raw.answers), nanoseconds: raw.nanoseconds,
      times: Array(UnsafeBufferPointer(start: raw.times, count: raw.time_count)),
      serverSeconds: (server?.cpuSeconds ?? 0) - before)
  }

  func stop() { load_stop(load) }

  /// Runs it on a thread of its own while `body` runs, at a rate or as fast as it can.
  func during<T>(
    depth: Int = 1, perSecond: Double = 0, server: ChildProcess? = nil, _ body: () throws -> T
  ) throws -> (T, Result) {
    let thread = BackgroundRun {
      try self.run(depth: depth, seconds: 3600, perSecond: perSecond, server: server)
    }
    do {
      let value = try body()
      stop()
      return (value, try thread.wait())
    } catch {
      stop()
      _ = try? thread.wait()
      throw error
    }
  }
}

/// Work on a thread of its own that gives one result.
final class BackgroundRun<Value: Sendable>: Sendable {
  private let thread = DatabaseThread()
  private let outcome = Mutex<Swift.Result<Value, any Error>?>(nil)

  init(_ body: @escaping @Sendable () throws -> Value) {
    thread.submit { [self] in
      let result = Swift.Result { try body() }
      outcome.withLock { $0 = result }
    }
  }

  func wait() throws -> Value {
    try thread.sync {}
    thread.stop()
    guard let result = outcome.withLock({ $0 }) else { throw Failure("the work gave nothing") }
    return try result.get()
  }
}
