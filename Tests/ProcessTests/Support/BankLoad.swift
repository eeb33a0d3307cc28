// Transfers between accounts whose sum never changes: a copy that mixes two states shows it.

import EdgeTesting
import Serving
import Store
import Synchronization

/// One client that moves money, a transaction after the other, and notes the token of each.
final class BankLoad: Sendable {
  static let schema = """
    CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, filler BLOB);
    CREATE TABLE move(n INTEGER PRIMARY KEY, source INTEGER, target INTEGER);
    WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 2000)
      INSERT INTO account SELECT i, 1000, randomblob(3500) FROM s;
    """
  private static let accounts: Int64 = 2000

  private let stops = Flag()
  private let tokens = TokenList()
  private let thread: BackgroundThread

  private final class TokenList: Sendable {
    let lock = Mutex<[String]>([])
  }

  init(port: Int) {
    let (stops, tokens) = (stops, tokens)
    thread = BackgroundThread {
      let client = try LineConnection(port: port)
      var random = SeededGenerator(seed: 11)
      while !stops.isSet {
        let source = Int64.random(in: 1...Self.accounts, using: &random)
        let target = Int64.random(in: 1...Self.accounts, using: &random)
        let statements = [
          "UPDATE account SET balance = balance - 1 WHERE id = \(source)",
          "UPDATE account SET balance = balance + 1 WHERE id = \(target)",
          "INSERT INTO move(source, target) VALUES (\(source), \(target))",
        ]
        let batch = statements.map { "{\"sql\":\"\($0)\"}" }.joined(separator: ",")
        let answer = try client.request("{\"batch\":[\(batch)]}")
        guard let token = answer.token, answer.error == nil else {
          throw TestFailure("a transfer failed: \(answer.message)")
        }
        tokens.lock.withLock { $0.append(token) }
      }
    }
  }

  /// Transfers so far.
  var count: Int { tokens.lock.withLock { $0.count } }

  /// Ends the transfers.
  ///
  /// - Returns: the token of each.
  func stop() throws -> [String] {
    stops.set()
    try thread.join()
    return tokens.lock.withLock { $0 }
  }

  /// Looks whether a file holds the state after exactly so many transfers.
  ///
  /// - Returns: how many; throws when it is a state that never was.
  static func transfers(in path: String) throws -> Int {
    let connection = try Connection(path: path, mode: .readOnly)
    let wrong = try connection.query(
      """
      SELECT count(*) FROM account WHERE balance != 1000
        - (SELECT count(*) FROM move WHERE source = account.id)
        + (SELECT count(*) FROM move WHERE target = account.id)
      """)
    guard wrong.first?.first == .integer(0) else {
      throw TestFailure("\(wrong) accounts are not what the transfers say")
    }
    let sum = try connection.queryInteger("SELECT sum(balance) FROM account")
    guard sum == 1000 * accounts else { throw TestFailure("the sum is \(sum ?? -1)") }
    return Int(try connection.queryInteger("SELECT count(*) FROM move") ?? -1)
  }
}
