// The client that all workloads are made of: it goes from node to node, connects again whatever
// happens to them, and tells of each request what is known of its fate.

import Serving
import Synchronization
import WALShip

/// One client of several nodes. It belongs to one thread.
public final class WorkloadClient {
  /// What is known of a request.
  public enum Outcome {
    case answered(LineConnection.Answer)
    /// An error that promises that nothing was done.
    case refused(code: String)
    /// `OUTCOME_UNKNOWN`, or no answer: made once, or not at all.
    case unknown
  }

  public let tally: WorkloadTally
  private let ports: [Int]
  private var place: Int
  private var connection: LineConnection?
  private var requestsLeft = 0
  private var random: SeededGenerator
  /// Of the last answer on the present connection, which its node remembers.
  private var sessionEpoch: Epoch?
  /// The node of the last request.
  public var port: Int { ports[place] }

  private static let requestsPerConnection = 1...60

  init(ports: [Int], first: Int, random: SeededGenerator, tally: WorkloadTally) {
    self.ports = ports
    place = first % ports.count
    self.random = random
    self.tally = tally
  }

  /// Sends a line to the present node, and waits for the answer.
  ///
  /// - Parameter token: what the line shows.
  /// - Returns: nil when the workload ends and nothing was sent.
  public func send(_ line: String, showing token: String = "") -> Outcome? {
    guard let connection = open() else { return nil }
    requestsLeft -= 1
    if tally.pauseSeconds > 0 { elapse(seconds: tally.pauseSeconds) }
    do {
      let answer = try connection.request(line)
      guard let code = answer.error else {
        sessionEpoch = answer.token.flatMap { Token($0) }?.epoch ?? sessionEpoch
        return .answered(answer)
      }
      if code == "OUTCOME_UNKNOWN" { return .unknown }
      let isLost = code == "TOKEN_EPOCH" && tally.isLost(Token(token)?.epoch, sessionEpoch)
      tally.count(code, retry: answer.retry || isLost, message: answer.message)
      // The node has forgotten it.
      if code == "TOKEN_EPOCH" { sessionEpoch = nil }
      return .refused(code: code)
    } catch {
      self.connection = nil
      return .unknown
    }
  }

  /// The present connection, or one to the next node that takes one.
  private func open() -> LineConnection? {
    if requestsLeft <= 0 { connection = nil }
    while connection == nil, !tally.stops.isSet {
      place = (place + 1) % ports.count
      try? eventually("a connection", deadline: .seconds(0.5)) {
        connection = try? LineConnection(port: port)
        return connection != nil || tally.stops.isSet
      }
      connection?.seconds = 30
      sessionEpoch = nil
      requestsLeft = .random(in: Self.requestsPerConnection, using: &random)
    }
    return tally.stops.isSet ? nil : connection
  }
}

/// What the clients of one workload share. Safe to use from any thread.
public final class WorkloadTally: Sendable {
  private struct Counts {
    var acknowledged = 0
    var unknown = 0
    var refused = 0
    var codes: [String: Int] = [:]
    var violations: [String] = []
  }

  public let stops = Flag()
  /// Between two requests of a client, for loads that last.
  let pauseSeconds: Double
  /// Errors that the faults of a test may cause, besides those that say `retry`.
  let tolerated: Set<String>
  /// What was seen in epochs below this one may be lost: who has seen it is told so.
  private let epochsLostBelow: Epoch
  private let counts = Mutex(Counts())
  private static let violationsMax = 10

  public init(
    tolerated: Set<String> = [], epochsLostBelow: Epoch = Epoch(0), pauseSeconds: Double = 0
  ) {
    self.tolerated = tolerated
    self.epochsLostBelow = epochsLostBelow
    self.pauseSeconds = pauseSeconds
  }

  /// Whether a request that shows one epoch, on a connection that has seen the other, may meet a
  /// history that was lost.
  func isLost(_ shown: Epoch?, _ seen: Epoch?) -> Bool {
    [shown, seen].contains { $0.map { $0 < epochsLostBelow } ?? false }
  }

  /// How often each error came.
  public var refusals: [String: Int] { counts.withLock { $0.codes } }
  public var acknowledgedCount: Int { counts.withLock { $0.acknowledged } }
  public var unknownCount: Int { counts.withLock { $0.unknown } }
  /// What contradicts a promise, as far as answers alone show it.
  public var violations: [String] { counts.withLock { $0.violations } }

  public func acknowledge() { counts.withLock { $0.acknowledged += 1 } }
  public func lose() { counts.withLock { $0.unknown += 1 } }

  public func violate(_ what: String) {
    counts.withLock { counts in
      if counts.violations.count < Self.violationsMax { counts.violations.append(what) }
    }
  }

  func count(_ code: String, retry: Bool, message: String) {
    counts.withLock {
      $0.refused += 1
      $0.codes[code, default: 0] += 1
    }
    if !retry, !tolerated.contains(code) { violate("\(code): \(message)") }
  }

  public var summary: String {
    counts.withLock { counts in
      let codes = counts.codes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
      return "\(counts.acknowledged) acknowledged, \(counts.unknown) unknown, "
        + "\(counts.refused) refused\(codes.isEmpty ? "" : " (\(codes.joined(separator: ", ")))")"
    }
  }
}
