// Transfers between accounts whose sum never changes: a state that mixes two others shows it,
// through any node, in any file and in any copy.

import Serving
import Store
import Synchronization
import WALShip

/// One client that moves money, a transaction after the other, and notes the token of each; one that
/// adds up what there is, on every node.
public final class BankLoad: Workload {
  public static let accounts: Int64 = 2000
  private static let sum = 1000 * accounts

  public static let schema = """
    CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, filler BLOB);
    CREATE TABLE move(n INTEGER PRIMARY KEY, run INTEGER, source INTEGER, target INTEGER);
    CREATE INDEX account_balance ON account(balance);
    WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT \(accounts))
      INSERT INTO account SELECT i, 1000, randomblob(3500) FROM s;
    """

  public let tally: WorkloadTally
  private let run: Int
  private let made = Made()
  public let threads: [BackgroundThread]

  private final class Made: Sendable {
    let lock = Mutex<[String]>([])
  }

  public init(ports: [Int], run: Int = 0, random: inout SeededGenerator, tally: WorkloadTally) {
    self.tally = tally
    self.run = run
    let made = made
    let (first, second) = (random.fork(), random.fork())
    threads = [
      BackgroundThread {
        var random = first
        let client = WorkloadClient(ports: ports, first: 0, random: random.fork(), tally: tally)
        while Self.transfer(client, run, &random, made) {}
      },
      BackgroundThread {
        let client = WorkloadClient(ports: ports, first: 1, random: second, tally: tally)
        while Self.addUp(client) {}
      },
    ]
  }

  /// Transfers through one node that nothing happens to.
  public convenience init(port: Int) {
    var random = SeededGenerator(seed: 11)
    self.init(
      ports: [port], random: &random, tally: WorkloadTally())
  }

  /// Transfers that were acknowledged so far.
  public var count: Int { tally.acknowledgedCount }

  /// Ends the transfers.
  ///
  /// - Returns: the token of each acknowledged one, in their order.
  public func stop() throws -> [String] {
    try end()
    return made.lock.withLock { $0 }
  }

  // MARK: Clients

  private static func transfer(
    _ client: WorkloadClient, _ run: Int, _ random: inout SeededGenerator, _ made: Made
  ) -> Bool {
    let source = Int64.random(in: 1...accounts, using: &random)
    let target = Int64.random(in: 1...accounts, using: &random)
    let statements = [
      "UPDATE account SET balance = balance - 1 WHERE id = \(source)",
      "UPDATE account SET balance = balance + 1 WHERE id = \(target)",
      "INSERT INTO move(run, source, target) VALUES (\(run), \(source), \(target))",
    ]
    let batch = statements.map { "{\"sql\":\"\($0)\"}" }.joined(separator: ",")
    switch client.send("{\"batch\":[\(batch)]}") {
    case .answered(let answer):
      made.lock.withLock { $0.append(answer.token ?? "none") }
      client.tally.acknowledge()
    case .refused: break
    case .unknown: client.tally.lose()
    case nil: return false
    }
    return true
  }

  private static func addUp(_ client: WorkloadClient) -> Bool {
    // The index keeps this from reading the fillers.
    switch client.send(
      "[\"SELECT sum(balance), count(*) FROM account INDEXED BY account_balance\"]")
    {
    case .answered(let answer):
      let row = answer.rows.first ?? []
      if row != [.integer(sum), .integer(accounts)] {
        client.tally.violate("port \(client.port) adds up to \(answer.json)")
      }
    case .refused, .unknown: break
    case nil: return false
    }
    return true
  }

  // MARK: The final state

  public func contradictions(in connection: Connection) throws -> [String] {
    _ = try Self.transfers(in: connection)
    let sql = "SELECT count(*) FROM move WHERE run = \(run)"
    let made = Int(try connection.queryInteger(sql) ?? -1)
    let range = tally.acknowledgedCount...tally.acknowledgedCount + tally.unknownCount
    return range.contains(made) ? [] : ["\(made) transfers, not in \(range)"]
  }

  /// Looks whether a file holds the state after exactly so many transfers.
  ///
  /// - Returns: how many; throws when it is a state that never was.
  public static func transfers(in path: String) throws -> Int {
    try transfers(in: Connection(path: path, mode: .readOnly))
  }

  private static func transfers(in connection: Connection) throws -> Int {
    let wrong = try connection.query(
      """
      WITH change(id, amount) AS (
        SELECT source, -1 FROM move UNION ALL SELECT target, 1 FROM move),
      total(id, amount) AS (SELECT id, sum(amount) FROM change GROUP BY id)
      SELECT count(*) FROM account LEFT JOIN total USING (id)
        WHERE balance != 1000 + coalesce(amount, 0)
      """)
    guard wrong.first?.first == .integer(0) else {
      throw TestFailure("\(wrong) accounts are not what the transfers say")
    }
    let sum = try connection.queryInteger("SELECT sum(balance) FROM account")
    guard sum == Self.sum else { throw TestFailure("the sum is \(sum ?? -1)") }
    return Int(try connection.queryInteger("SELECT count(*) FROM move") ?? -1)
  }
}
