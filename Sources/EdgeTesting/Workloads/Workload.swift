// Work that clients do while a test breaks things, and the check of what they were told against what
// is there in the end.

import Store
import WALShip

/// Clients on threads of their own. Each kind of workload looks at other promises.
public protocol Workload: Sendable {
  /// Makes the tables where they are not there.
  static var schema: String { get }
  var tally: WorkloadTally { get }
  /// The clients, which end when `tally.stops` is set.
  var threads: [BackgroundThread] { get }
  /// Compares what was told with a file that holds the final state.
  func contradictions(in connection: Connection) throws -> [String]
}

extension Workload {
  public var acknowledgedCount: Int { tally.acknowledgedCount }

  /// Ends the clients and waits for them; to be called once.
  public func end() throws {
    tally.stops.set()
    for thread in threads { try thread.join() }
  }

  /// What contradicts a promise, in the answers and in a file.
  public func problems(in path: String) throws -> [String] {
    let connection = try Connection(path: path, mode: .readOnly)
    return try (tally.violations + contradictions(in: connection)).map { "\(Self.self): \($0)" }
  }
}

/// All workloads at once, over the same nodes.
public final class WorkloadSet: Sendable {
  public static let schema = schemaBesideLog + WriteLoad.schema
  /// For a database that has the table of `WriteLoad` already.
  public static let schemaBesideLog = BankLoad.schema + AppendLoad.schema + CounterLoad.schema

  public let workloads: [any Workload]

  /// Starts the clients.
  ///
  /// - Parameters:
  ///   - ports: nodes that the clients go to, one after the other.
  ///   - run: tells the data of one set from those of another set on the same database.
  ///   - tolerated: codes of errors that the faults of a test may cause.
  ///   - epochsLostBelow: nodes may still be in an epoch below this one when the clients begin, and
  ///     its history is lost: a client that sees it there gets TOKEN_EPOCH afterwards.
  ///   - pauseSeconds: between two requests of a client.
  public init(
    ports: [Int], run: Int = 0, random: inout SeededGenerator, tolerated: Set<String> = [],
    epochsLostBelow: Epoch = Epoch(0), pauseSeconds: Double = 0
  ) {
    let tallies = (0..<4).map { _ in
      WorkloadTally(
        tolerated: tolerated, epochsLostBelow: epochsLostBelow, pauseSeconds: pauseSeconds)
    }
    workloads = [
      BankLoad(ports: ports, run: run, random: &random, tally: tallies[0]),
      AppendLoad(ports: ports, run: run, random: &random, tally: tallies[1]),
      CounterLoad(ports: ports, run: run, random: &random, tally: tallies[2]),
      WriteLoad(ports: ports, firstID: Int64(run) * 1_000_000_000_000, tally: tallies[3]),
    ]
  }

  public var acknowledgedCount: Int { workloads.reduce(0) { $0 + $1.acknowledgedCount } }

  /// Waits until each workload has got so many more acknowledgements.
  public func progress(_ count: Int, deadline: Deadline = .seconds(60)) throws {
    let goals = workloads.map { $0.acknowledgedCount + count }
    try eventually("progress of \(summary)", deadline: deadline) {
      zip(workloads, goals).allSatisfy { $0.acknowledgedCount >= $1 }
    }
  }

  /// Ends all clients.
  public func stop() throws {
    for workload in workloads { workload.tally.stops.set() }
    for workload in workloads { try workload.end() }
  }

  public func problems(in path: String) throws -> [String] {
    try workloads.flatMap { try $0.problems(in: path) }
  }

  public var summary: String {
    workloads.map { "\(type(of: $0)) \($0.tally.summary)" }.joined(separator: "; ")
  }
}
