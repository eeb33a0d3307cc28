// Writers that go on whatever happens to the nodes, and know of every row what they were told.

import EdgeTesting
import Serving
import Store
import Synchronization

/// Threads that insert rows with ids of their own into `log(id, body)`.
final class WriteLoad: Sendable {
  struct Outcome: Sendable {
    var acknowledged: Set<Int64> = []
    /// The answer never came, or was `OUTCOME_UNKNOWN`: made once, or not at all.
    var unknown: Set<Int64> = []
    /// Told to have had no effect.
    var refused: Set<Int64> = []
    /// Errors that were neither.
    var other: [String] = []
  }

  static let schema = "CREATE TABLE log(seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, body TEXT)"

  private let stops = Flag()
  private let threads: [BackgroundThread]
  private let box: OutcomeBox

  /// - Parameters:
  ///   - ports: where to write; each thread takes one of them.
  ///   - depth: requests in flight on each connection.
  ///   - diskMayFail: whether a write may end with what SQLite says about a disk that fails; such a
  ///     write had no effect either.
  init(
    ports: [Int], threads count: Int = 2, depth: Int = 4, firstID: Int64 = 0,
    diskMayFail: Bool = false
  ) {
    let (outcome, stops) = (OutcomeBox(), stops)
    box = outcome
    threads = (0..<count).map { number in
      let port = ports[number % ports.count]
      let first = firstID + Int64(number) * 1_000_000_000
      return BackgroundThread {
        Writer(
          port: port, depth: depth, nextID: first, diskMayFail: diskMayFail, outcome: outcome,
          stops: stops
        ).run()
      }
    }
  }

  /// The rows that are acknowledged by now.
  var acknowledged: Set<Int64> { box.lock.withLock { $0.acknowledged } }
  var acknowledgedCount: Int { box.lock.withLock { $0.acknowledged.count } }

  /// Ends the writers and tells what they know.
  func stop() throws -> Outcome {
    stops.set()
    for thread in threads { try thread.join() }
    return box.lock.withLock { $0 }
  }

  fileprivate final class OutcomeBox: Sendable {
    let lock = Mutex(Outcome())
  }

  private final class Writer {
    let port: Int
    let depth: Int
    var nextID: Int64
    let diskMayFail: Bool
    let outcome: OutcomeBox
    let stops: Flag

    init(
      port: Int, depth: Int, nextID: Int64, diskMayFail: Bool, outcome: OutcomeBox, stops: Flag
    ) {
      self.port = port
      self.depth = depth
      self.nextID = nextID
      self.diskMayFail = diskMayFail
      self.outcome = outcome
      self.stops = stops
    }

    func run() {
      while !stops.isSet {
        var connection: LineConnection?
        try? eventually("a connection", deadline: .seconds(1)) {
          connection = try? LineConnection(port: port)
          return connection != nil || stops.isSet
        }
        connection?.seconds = 30
        while let open = connection, !stops.isSet {
          if !round(open) { connection = nil }
        }
      }
    }

    /// SQLite calls it a corrupt file system when reading fails with EIO.
    private static func isOfDisk(_ code: String) -> Bool {
      code.hasPrefix("SQLITE_IOERR") || code == "SQLITE_CORRUPT"
    }

    /// Sends some rows and reads the answers. Returns false when the connection is lost.
    private func round(_ connection: LineConnection) -> Bool {
      var waiting = (0..<depth).map { nextID + Int64($0) }
      nextID += Int64(depth)
      let lines = waiting.map { id in
        "[\"INSERT INTO log(id, body) VALUES (?, ?)\",\(id),\"row \(id) of the load, with some text\"]\n"
      }
      do {
        try connection.send(lines.joined())
        while let id = waiting.first {
          let answer = try connection.receive()
          waiting.removeFirst()
          outcome.lock.withLock { outcome in
            switch answer.error {
            case nil: outcome.acknowledged.insert(id)
            case "OUTCOME_UNKNOWN": outcome.unknown.insert(id)
            case _ where answer.retry: outcome.refused.insert(id)
            case let code? where diskMayFail && Self.isOfDisk(code): outcome.refused.insert(id)
            case let code: outcome.other.append("\(code ?? "?"): \(answer.message)")
            }
          }
        }
        return true
      } catch {
        outcome.lock.withLock { $0.unknown.formUnion(waiting) }
        return false
      }
    }
  }
}

extension WriteLoad.Outcome {
  /// Looks into a database file: each acknowledged row once, each refused row never, every other at
  /// most once.
  func problems(in path: String) throws -> [String] {
    let connection = try Connection(path: path, mode: .readOnly)
    let counts = try connection.query("SELECT id, count(*) FROM log GROUP BY id")
    var found: [Int64: Int64] = [:]
    for row in counts {
      if case .integer(let id) = row[0], case .integer(let count) = row[1] { found[id] = count }
    }
    var problems = other
    let lost = acknowledged.filter { found[$0] == nil }
    if !lost.isEmpty {
      problems.append("\(lost.count) acknowledged rows are lost: \(lost.prefix(5))")
    }
    let double = found.filter { $0.value > 1 }
    if !double.isEmpty {
      problems.append("\(double.count) rows are there twice: \(double.prefix(5))")
    }
    let undead = refused.filter { found[$0] != nil }
    if !undead.isEmpty {
      problems.append("\(undead.count) refused rows were made: \(undead.prefix(5))")
    }
    return problems
  }

  mutating func add(_ more: Self) {
    acknowledged.formUnion(more.acknowledged)
    unknown.formUnion(more.unknown)
    refused.formUnion(more.refused)
    other += more.other
  }
}
