// Increments of one counter: each acknowledged one is there, none twice, and the tokens have the
// order of the values.

import Serving
import Store
import Synchronization
import WALShip

/// Clients that add 1 to the same row and are told what it became.
public final class CounterLoad: Workload {
  public static let schema = """
    CREATE TABLE counter(id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
    """

  public let tally: WorkloadTally
  private let id: Int64
  private let seen = Seen()
  public let threads: [BackgroundThread]

  private struct Increment {
    var value: Int64
    var token: Token
  }

  private final class Seen: Sendable {
    let lock = Mutex<[Increment]>([])
  }

  public init(
    ports: [Int], run: Int, random: inout SeededGenerator, tally: WorkloadTally, clients: Int = 2
  ) {
    self.tally = tally
    let id = Int64(run)
    self.id = id
    let seen = seen
    var threads: [BackgroundThread] = []
    for number in 0..<clients {
      let fork = random.fork()
      threads.append(
        BackgroundThread {
          let client = WorkloadClient(ports: ports, first: number, random: fork, tally: tally)
          Counting(client: client, id: id, seen: seen).run()
        })
    }
    self.threads = threads
  }

  /// One client.
  private final class Counting {
    private let client: WorkloadClient
    private let id: Int64
    private let seen: Seen
    private var last = Increment(value: 0, token: Token(database: 0, epoch: Epoch(0), txid: .zero))
    private var text = ""

    init(client: WorkloadClient, id: Int64, seen: Seen) {
      self.client = client
      self.id = id
      self.seen = seen
    }

    func run() {
      while increment(), read() {}
    }

    private func increment() -> Bool {
      let line = """
        ["INSERT INTO counter VALUES (?, 1) ON CONFLICT(id) DO UPDATE SET n = n + 1 RETURNING n", \(id)]
        """
      switch client.send(line) {
      case .answered(let answer):
        guard let value = answer.integer, let token = answer.token.flatMap({ Token($0) }) else {
          client.tally.violate("an increment was answered with \(answer.json)")
          return true
        }
        if value <= last.value || CounterLoad.isBefore(token, last.token) {
          client.tally.violate("\(value) at \(token) after \(last.value) at \(last.token)")
        }
        last = Increment(value: value, token: token)
        text = token.description
        seen.lock.withLock { $0.append(last) }
        client.tally.acknowledge()
      case .refused: break
      case .unknown: client.tally.lose()
      case nil: return false
      }
      return true
    }

    /// With the token of the last increment, wherever this client is now.
    private func read() -> Bool {
      guard !text.isEmpty else { return true }
      let line = """
        {"sql":"SELECT n FROM counter WHERE id = ?","args":[\(id)],"token":"\(text)","wait_ms":2000}
        """
      switch client.send(line, showing: text) {
      case .answered(let answer):
        if (answer.integer ?? -1) < last.value {
          client.tally.violate("port \(client.port) shows \(answer.json) at \(text)")
        }
      case .refused(code: "TOKEN_EPOCH"): text = ""
      case .refused, .unknown: break
      case nil: return false
      }
      return true
    }
  }

  private static func isBefore(_ one: Token, _ other: Token) -> Bool {
    one.replicationIndex < other.replicationIndex
  }

  public func contradictions(in connection: Connection) throws -> [String] {
    var result: [String] = []
    let increments = seen.lock.withLock { $0 }.sorted { $0.value < $1.value }
    for (one, next) in zip(increments, increments.dropFirst()) {
      if one.value == next.value { result.append("two increments made \(one.value)") }
      if Self.isBefore(next.token, one.token) {
        result.append("\(next.value) has \(next.token), \(one.value) has \(one.token)")
      }
    }
    let final = try connection.queryInteger("SELECT n FROM counter WHERE id = \(id)") ?? 0
    let range = increments.count...increments.count + tally.unknownCount
    if !range.contains(Int(final)) { result.append("the counter is \(final), not in \(range)") }
    return Array(result.prefix(10))
  }
}
