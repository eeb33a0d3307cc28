// Lists that only grow: every read of one is a beginning of what it is in the end, reads with a token
// see what was seen and made before, and no node shows less than it has shown.

import Serving
import Store
import Synchronization

/// Clients that append numbers of their own to lists, and read whole lists.
public final class AppendLoad: Workload {
  public static let schema = """
    CREATE TABLE item(list INTEGER, position INTEGER, value INTEGER NOT NULL,
      PRIMARY KEY (list, position)) WITHOUT ROWID;
    """
  /// Lists that are appended to at one time, and about how long each of them becomes.
  private static let lists = 4
  private static let itemsPerList = 100
  private static let listsPerRun = 1_000_000

  public let tally: WorkloadTally
  private let firstList: Int
  private let book = Book()
  public let threads: [BackgroundThread]

  public init(
    ports: [Int], run: Int, random: inout SeededGenerator, tally: WorkloadTally, clients: Int = 2
  ) {
    self.tally = tally
    let firstList = run * Self.listsPerRun
    self.firstList = firstList
    let book = book
    var threads: [BackgroundThread] = []
    for number in 0..<clients {
      let fork = random.fork()
      threads.append(
        BackgroundThread {
          let client = WorkloadClient(ports: ports, first: number, random: fork, tally: tally)
          Appending(
            client: client, book: book, firstList: firstList,
            firstValue: (run * clients + number) * 1_000_000_000, random: fork
          ).run()
        })
    }
    self.threads = threads
  }

  // MARK: What was seen

  private struct Place: Hashable {
    var port: Int
    var list: Int
  }

  /// What all clients know.
  private final class Book: Sendable {
    struct Pages {
      var appends = 0
      var acknowledged: Set<Int64> = []
      var unknown: Set<Int64> = []
      var refused: Set<Int64> = []
      /// For each list, and each length that was read: the hash of what was read.
      var reads: [Int: [Int: UInt64]] = [:]
      /// The longest that each node has shown.
      var shown: [Place: Int] = [:]
    }
    let lock = Mutex(Pages())
  }

  fileprivate static func hash(_ hash: UInt64, _ value: Int64) -> UInt64 {
    (hash ^ UInt64(bitPattern: value)) &* 0x100_0000_01B3 ^ hash >> 29
  }

  /// One client.
  private final class Appending {
    private let client: WorkloadClient
    private let book: Book
    private let firstList: Int
    private var nextValue: Int64
    private var random: SeededGenerator
    /// Its newest token, and for each list what a read with it must show.
    private var token = ""
    private var lengths: [Int: Int] = [:]
    private var own: [Int: [Int64]] = [:]

    init(
      client: WorkloadClient, book: Book, firstList: Int, firstValue: Int, random: SeededGenerator
    ) {
      self.client = client
      self.book = book
      self.firstList = firstList
      nextValue = Int64(firstValue)
      self.random = random
    }

    func run() {
      var goesOn = true
      while goesOn {
        let generation = book.lock.withLock { $0.appends } / (lists * itemsPerList)
        let list = firstList + generation * lists + Int.random(in: 0..<lists, using: &random)
        if own.count > 4 * lists {
          own = [:]
          lengths = [:]
        }
        switch Int.random(in: 0..<4, using: &random) {
        case 0, 1: goesOn = append(list)
        case 2: goesOn = readWithToken(list)
        default: goesOn = readWithoutToken(list)
        }
      }
    }

    private func append(_ list: Int) -> Bool {
      nextValue += 1
      let value = nextValue
      let line = """
        ["INSERT INTO item SELECT ?1, coalesce(max(position), 0) + 1, ?2 FROM item WHERE list = ?1", \(list), \(value)]
        """
      let outcome = client.send(line)
      book.lock.withLock { book in
        book.appends += 1
        switch outcome {
        case .answered: book.acknowledged.insert(value)
        case .refused: book.refused.insert(value)
        case .unknown: book.unknown.insert(value)
        case nil: break
        }
      }
      switch outcome {
      case .answered(let answer):
        client.tally.acknowledge()
        token = answer.token ?? token
        own[list, default: []].append(value)
      case .refused: break
      case .unknown: client.tally.lose()
      case nil: return false
      }
      return true
    }

    private func line(_ list: Int, _ options: String) -> String {
      """
      {"sql":"SELECT value FROM item WHERE list = ? ORDER BY position","args":[\(list)],\(options)}
      """
    }

    private func readWithToken(_ list: Int) -> Bool {
      guard !token.isEmpty else { return true }
      let shown = line(list, "\"token\":\"\(token)\",\"wait_ms\":2000")
      switch client.send(shown, showing: token) {
      case .answered(let answer):
        let values = note(answer, of: list)
        token = answer.token ?? token
        if values.count < lengths[list] ?? 0 {
          client.tally.violate(
            "port \(client.port), list \(list): \(values.count) items after \(lengths[list] ?? 0)")
        }
        lengths[list] = values.count
        let missing = Set(own[list] ?? []).subtracting(values)
        if !missing.isEmpty {
          client.tally.violate("port \(client.port), list \(list): own \(missing) are not there")
        }
      case .refused(code: "TOKEN_EPOCH"):
        token = ""
        own = [:]
        lengths = [:]
      case .refused, .unknown: break
      case nil: return false
      }
      return true
    }

    /// What this node has of its own: never less than it has shown before.
    private func readWithoutToken(_ list: Int) -> Bool {
      let place = Place(port: client.port, list: list)
      let before = book.lock.withLock { $0.shown[place] ?? 0 }
      switch client.send(line(list, "\"on_lag\":\"error\"")) {
      case .answered(let answer):
        // The client may have gone on to another node.
        guard client.port == place.port else { return true }
        let values = note(answer, of: list)
        if values.count < before {
          client.tally.violate(
            "port \(client.port), list \(list): \(values.count) items, and \(before) before")
        }
        book.lock.withLock { $0.shown[place] = max($0.shown[place] ?? 0, values.count) }
      case .refused, .unknown: break
      case nil: return false
      }
      return true
    }

    private func note(_ answer: LineConnection.Answer, of list: Int) -> [Int64] {
      let values = answer.rows.compactMap { $0.first?.integer }
      let hash = values.reduce(0, AppendLoad.hash)
      let known = book.lock.withLock { book in
        defer { book.reads[list, default: [:]][values.count] = hash }
        return book.reads[list]?[values.count]
      }
      if let known, known != hash {
        client.tally.violate("list \(list) had two contents with \(values.count) items")
      }
      return values
    }
  }

  // MARK: The final state

  public func contradictions(in connection: Connection) throws -> [String] {
    var result: [String] = []
    var prefixes: [Int: [UInt64]] = [:]
    var found: Set<Int64> = []
    let rows = try connection.query(
      """
      SELECT list, position, value FROM item
        WHERE list >= \(firstList) AND list < \(firstList + Self.listsPerRun) ORDER BY list, position
      """)
    for row in rows {
      guard case .integer(let list) = row[0], case .integer(let position) = row[1],
        case .integer(let value) = row[2]
      else { throw TestFailure("no items: \(row)") }
      var hashes = prefixes[Int(list)] ?? [0]
      if hashes.count != Int(position) { result.append("list \(list) has a gap at \(position)") }
      hashes.append(Self.hash(hashes.last ?? 0, value))
      prefixes[Int(list)] = hashes
      if !found.insert(value).inserted { result.append("\(value) is there twice") }
    }
    let book = book.lock.withLock { $0 }
    for (list, reads) in book.reads {
      let hashes = prefixes[list] ?? [0]
      for (count, hash) in reads where count >= hashes.count || hashes[count] != hash {
        result.append(
          "a read of list \(list) with \(count) items is no beginning of its final ones")
      }
    }
    let lost = book.acknowledged.subtracting(found)
    if !lost.isEmpty { result.append("\(lost.count) appends are lost: \(lost.prefix(5))") }
    let undead = book.refused.intersection(found)
    if !undead.isEmpty { result.append("refused appends were made: \(undead.prefix(5))") }
    return Array(result.prefix(10))
  }
}
