// Clients that travel: each takes its token from node to node and looks at every answer. Money is
// moved in transactions, so that a state that never was shows in the sum.

import EdgeTesting
import Serving
import Store
import Synchronization

/// Threads that transfer and read until they are stopped, whatever happens to the network.
final class SessionLoad: Sendable {
  struct Outcome: Sendable {
    /// The numbers of the transfers of each client.
    var acknowledged: [Int: Set<Int64>] = [:]
    var refused: [Int: Set<Int64>] = [:]
    var unknownCount = 0
    var reads = 0
    /// Reads that ended with one of the errors that a token may end with.
    var readsWithoutAnswer = 0
    var localReads = 0
    var slowestWriteSeconds = 0.0
    /// What must not be.
    var problems: [String] = []

    var acknowledgedCount: Int { acknowledged.values.reduce(0) { $0 + $1.count } }
    var refusedCount: Int { refused.values.reduce(0) { $0 + $1.count } }

    var summary: String {
      "\(acknowledgedCount) transfers acknowledged, \(unknownCount) unknown, \(refusedCount) refused, "
        + "\(reads) reads with a token, \(readsWithoutAnswer) without an answer, "
        + "\(localReads) local reads; slowest write \(tenths(slowestWriteSeconds)) s"
    }
  }

  static let schema = """
    CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
    CREATE TABLE move(seq INTEGER PRIMARY KEY, client INTEGER NOT NULL, n INTEGER NOT NULL);
    CREATE INDEX move_by_client ON move(client, n);
    CREATE TABLE heartbeat(n INTEGER);
    INSERT INTO heartbeat VALUES (0);
    WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 20)
      INSERT INTO account SELECT i, 1000 FROM s;
    """
  fileprivate static let sum: Int64 = 20_000

  private let stops = Flag()
  private let threads: [BackgroundThread]
  private let box: OutcomeBox

  /// - Parameters:
  ///   - travellers: clients that take their token from node to node.
  ///   - seed: what they do, and where.
  init(places: [RegionCluster.Place], travellers: Int, seed: UInt64) {
    let (outcome, stops) = (OutcomeBox(), stops)
    box = outcome
    let travelling = (0..<travellers).map { number in
      BackgroundThread {
        Traveller(number: number, places: places, seed: seed &+ UInt64(number), outcome: outcome)
          .run(until: stops)
      }
    }
    let resident = places.map { place in
      BackgroundThread { Resident(place: place, outcome: outcome).run(until: stops) }
    }
    threads = travelling + resident
  }

  var acknowledgedCount: Int { box.lock.withLock { $0.acknowledgedCount } }

  func stop() throws -> Outcome {
    stops.set()
    for thread in threads { try thread.join() }
    return box.lock.withLock { $0 }
  }

  fileprivate final class OutcomeBox: Sendable {
    let lock = Mutex(Outcome())
    func problem(_ text: String) {
      lock.withLock { if $0.problems.count < 20 { $0.problems.append(text) } }
    }
  }
}

extension SessionLoad.Outcome {
  /// Looks into a database file for what was acknowledged and refused.
  func problems(in path: String) throws -> [String] {
    let connection = try Connection(path: path, mode: .readOnly)
    var result = problems
    let sum = try connection.queryInteger("SELECT sum(balance) FROM account")
    if sum != SessionLoad.sum { result.append("the sum is \(sum ?? -1)") }
    let double = try connection.query(
      "SELECT client, n FROM move GROUP BY 1, 2 HAVING count(*) > 1")
    if !double.isEmpty { result.append("transfers were made twice: \(double.prefix(5))") }
    var made: [Int: Set<Int64>] = [:]
    for row in try connection.query("SELECT client, n FROM move") {
      guard case .integer(let client) = row[0], case .integer(let n) = row[1] else { continue }
      made[Int(client), default: []].insert(n)
    }
    for (client, numbers) in acknowledged {
      let lost = numbers.subtracting(made[client] ?? [])
      if !lost.isEmpty { result.append("lost of client \(client): \(lost.sorted().prefix(5))") }
    }
    for (client, numbers) in refused {
      let undead = numbers.intersection(made[client] ?? [])
      if !undead.isEmpty { result.append("refused, but made: \(undead.sorted().prefix(5))") }
    }
    return result
  }
}

/// A client that shows the token of its last answer wherever it comes.
private final class Traveller {
  let number: Int
  let places: [RegionCluster.Place]
  let outcome: SessionLoad.OutcomeBox
  var random: SeededGenerator
  var connections: [Int: LineConnection] = [:]
  var token: String?
  var next: Int64 = 0
  var acknowledged: Int64 = 0
  var attempted: Int64 = 0
  /// The highest number of transfers, of all and of this client, that a read has shown.
  var seen = (all: Int64(0), own: Int64(0))

  init(
    number: Int, places: [RegionCluster.Place], seed: UInt64, outcome: SessionLoad.OutcomeBox
  ) {
    self.number = number
    self.places = places
    self.outcome = outcome
    random = SeededGenerator(seed: seed)
  }

  func run(until stops: Flag) {
    while !stops.isSet {
      let place = Int.random(in: places.indices, using: &random)
      do {
        let client = try connections[place] ?? places[place].connect()
        client.seconds = 30
        connections[place] = client
        if Int.random(in: 0..<3, using: &random) == 0 {
          try transfer(client, places[place].name)
        } else {
          try read(client, places[place].name)
        }
      } catch {
        // Nodes stay up all the time, and each request has an answer of its own.
        outcome.problem("\(places[place].name): \(error)")
        connections[place] = nil
      }
      elapse(seconds: 0.01)
    }
  }

  private func transfer(_ client: LineConnection, _ place: String) throws {
    let (source, target) = (
      Int.random(in: 1...20, using: &random), Int.random(in: 1...20, using: &random)
    )
    let number = next
    next += 1
    attempted += 1
    let statements = [
      "UPDATE account SET balance = balance - 1 WHERE id = \(source)",
      "UPDATE account SET balance = balance + 1 WHERE id = \(target)",
      "INSERT INTO move(client, n) VALUES (\(self.number), \(number))",
    ]
    let batch = statements.map { "{\"sql\":\"\($0)\"}" }.joined(separator: ",")
    let began = Deadline.now()
    let answer = try client.request("{\"batch\":[\(batch)]}")
    let seconds = Double(Deadline.now() - began) / 1e9
    let me = self.number
    outcome.lock.withLock { outcome in
      outcome.slowestWriteSeconds = max(outcome.slowestWriteSeconds, seconds)
      switch answer.error {
      case nil: outcome.acknowledged[me, default: []].insert(number)
      case "OUTCOME_UNKNOWN": outcome.unknownCount += 1
      case _ where answer.retry: outcome.refused[me, default: []].insert(number)
      case let code: outcome.problems.append("\(place): \(code ?? "?"): \(answer.message)")
      }
    }
    guard answer.error == nil else { return }
    acknowledged += 1
    guard let given = answer.token else { return outcome.problem("a transfer without a token") }
    token = given
  }

  private func read(_ client: LineConnection, _ place: String) throws {
    let sql =
      "SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM move), "
      + "(SELECT count(*) FROM move WHERE client = \(number))"
    let lag = Bool.random(using: &random) ? "error" : "forward"
    var options: [(String, JSONValue)] = [("on_lag", .string(lag)), ("wait_ms", 1000)]
    if let token { options.append(("token", .string(token))) }
    let answer = try client.query(sql, [], options)
    switch answer.error {
    case nil: break
    case "TOKEN_TIMEOUT", "PRIMARY_UNAVAILABLE":
      outcome.lock.withLock { $0.readsWithoutAnswer += 1 }
      return
    case let code: return outcome.problem("\(place): \(code ?? "?"): \(answer.message)")
    }
    outcome.lock.withLock { $0.reads += 1 }
    let row = answer.rows.first?.compactMap(\.integer) ?? []
    guard row.count == 3, let given = answer.token else {
      return outcome.problem("\(place): no row, or no token")
    }
    token = given
    if row[0] != SessionLoad.sum { outcome.problem("\(place): the sum is \(row[0])") }
    if row[2] < acknowledged || row[2] > attempted {
      outcome.problem("\(place): client \(number) sees \(row[2]) of its own \(acknowledged)")
    }
    if row[1] < seen.all || row[2] < seen.own {
      outcome.problem("\(place): client \(number) went back from \(seen) to \(row)")
    }
    seen = (row[1], row[2])
  }
}

/// A client that reads what is there at its node, without a token: always an answer, and never an
/// older one.
private final class Resident {
  let place: RegionCluster.Place
  let outcome: SessionLoad.OutcomeBox

  init(place: RegionCluster.Place, outcome: SessionLoad.OutcomeBox) {
    self.place = place
    self.outcome = outcome
  }

  func run(until stops: Flag) {
    let sql = "SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM move)"
    var seen: Int64 = 0
    while !stops.isSet {
      do {
        // A new connection has no token of its own: what keeps it from going back is the node.
        let client = try place.connect()
        for _ in 0..<10 where !stops.isSet {
          let row = try client.run(sql).rows.first?.compactMap(\.integer) ?? []
          guard row.count == 2 else { throw TestFailure("no row") }
          if row[0] != SessionLoad.sum { throw TestFailure("the sum is \(row[0])") }
          if row[1] < seen { throw TestFailure("from \(seen) transfers back to \(row[1])") }
          seen = row[1]
          outcome.lock.withLock { $0.localReads += 1 }
          elapse(seconds: 0.02)
        }
      } catch {
        outcome.problem("local read at \(place.name): \(error)")
        elapse(seconds: 0.1)
      }
    }
  }
}

/// With one digit behind the point.
func tenths(_ number: Double) -> String {
  let whole = Int((number * 10).rounded())
  return "\(whole / 10).\(abs(whole % 10))"
}
