// The streams of a node's HTTP clients, and the batons that name them. A baton is good for one
// request: the answer has the next one.
//
// A stream belongs to the loop of its first request. Requests that come by other connections are
// taken there.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import Crypto
import NIOCore
import NIOHTTP1
import Store
import Synchronization
import WALShip

/// Keeps streams. Safe to use from any thread.
final class HranaServer: Sendable {
  private struct State {
    var streams: [UInt64: NIOLoopBound<HranaStream>] = [:]
    /// When streams expired, so that their clients can be told.
    var expired: [UInt64: UInt64] = [:]
  }

  let limits: ServingLimits
  private let state = Mutex(State())
  /// Of this run of the node alone: no other could know the streams.
  private let key = SymmetricKey(size: .bits256)

  private static let expiredNanoseconds: UInt64 = 300 * 1_000_000_000
  private static let expiredMax = 10_000

  /// Of streams that no baton names: they are not kept here.
  static let briefID: UInt64 = 0

  init(limits: ServingLimits) { self.limits = limits }

  var streamCount: Int { state.withLock { $0.streams.count } }

  // MARK: Streams

  /// A new stream, on the loop of the caller.
  func open(
    _ lease: DatabaseLease, access: AccessLevel, loop: any EventLoop
  ) throws(HranaFailure) -> HranaStream {
    let id = Chance.number(in: 1...UInt64.max)
    let stream = HranaStream(id: id, lease: lease, access: access, loop: loop)
    let bound = NIOLoopBound(stream, eventLoop: loop)
    let fits = state.withLock { state in
      guard state.streams.count < limits.streamsMax else { return false }
      state.streams[id] = bound
      return true
    }
    guard fits else { throw .overloaded("this node has as many streams as it may have") }
    return stream
  }

  /// The stream that a baton names.
  func find(_ baton: String) throws(HranaFailure) -> (NIOLoopBound<HranaStream>, UInt64) {
    let (id, sequence) = try read(baton)
    let found: Result<NIOLoopBound<HranaStream>, HranaFailure> = state.withLock { state in
      if let stream = state.streams[id] { return .success(stream) }
      let expired = state.expired[id]
      let isKnown = expired.map { monotonicNanoseconds() &- $0 < Self.expiredNanoseconds }
      return .failure(isKnown ?? false ? .streamExpired : .closedStream)
    }
    return (try found.get(), sequence)
  }

  func close(_ stream: HranaStream) {
    if stream.id != Self.briefID {
      _ = state.withLock { $0.streams.removeValue(forKey: stream.id) }
    }
    stream.close()
  }

  /// Begins the time in which the next request must come.
  func awaitNext(_ stream: HranaStream) {
    guard stream.requestsInProgress == 0, !stream.isClosed else { return }
    let bound = NIOLoopBound(stream, eventLoop: stream.loop)
    stream.expiry = stream.loop.scheduleTask(
      in: .milliseconds(Int64(limits.streamIdleMilliseconds))
    ) { self.expire(bound.value) }
  }

  private func expire(_ stream: HranaStream) {
    guard stream.requestsInProgress == 0, !stream.isClosed else { return }
    let now = monotonicNanoseconds()
    state.withLock { state in
      state.streams[stream.id] = nil
      if state.expired.count >= Self.expiredMax {
        state.expired = state.expired.filter { now &- $0.value < Self.expiredNanoseconds }
      }
      if state.expired.count < Self.expiredMax { state.expired[stream.id] = now }
    }
    stream.close()
  }

  func stop() {
    let all = state.withLock { state in
      defer { state.streams = [:] }
      return state.streams.values.map { $0 }
    }
    for bound in all { bound.eventLoop.execute { bound.value.close() } }
  }

  // MARK: Batons

  /// The baton for the next request of a stream.
  func baton(_ stream: HranaStream) -> String {
    var bytes = Self.bytes(stream.id) + Self.bytes(stream.sequence)
    bytes += Array(HMAC<SHA256>.authenticationCode(for: bytes, using: key))
    var output = OutputBytes(capacity: 128)
    bytes.withUnsafeBytes { output.writeBase64($0, padding: false) }
    return output.string
  }

  private func read(_ baton: String) throws(HranaFailure) -> (id: UInt64, sequence: UInt64) {
    var text = baton
    guard let bytes = text.withUTF8({ Base64.decode(UnsafeRawBufferPointer($0)) }),
      bytes.count == 16 + SHA256.byteCount,
      HMAC<SHA256>.isValidAuthenticationCode(
        bytes[16...], authenticating: bytes[..<16], using: key)
    else { throw .invalidBaton }
    func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    return (number(0..<8), number(8..<16))
  }

  private static func bytes(_ number: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64($0))) }
  }
}
