// A client that speaks the line protocol to one node after another, and remembers what it was
// promised: what it wrote must be there, what was refused must not, and nothing it has seen may be
// taken back.

import EdgeTesting
import NIOCore
import NIOEmbedded
import Serving
import WALShip

/// One client. Every transaction of a client keeps the same invariants, so every state that it
/// reads can be checked.
final class SimulatedClient {
  /// What became of a write.
  enum Fate: Equatable {
    case acknowledged(Token)
    case refused
    case unknown
  }

  private enum Request: CustomStringConvertible {
    case write(id: Int64, key: String?, isRepeat: Bool)
    case read(node: String)
    /// A step of a transaction that writes the row `id`; what is still to be sent.
    case transaction(id: Int64, rest: [String], failed: Bool)
    case other

    /// For the trace.
    var description: String {
      switch self {
      case .write(let id, let key, let isRepeat):
        "\(isRepeat ? "repeat" : "write") \(id)\(key == nil ? "" : " keyed")"
      case .read: "read"
      case .transaction(let id, let rest, let failed):
        "transaction \(id), \(rest.count) left\(failed ? ", failed" : "")"
      case .other: "maintenance"
      }
    }
  }

  let number: Int
  private unowned let simulation: Simulation
  private var chance: SeededGenerator
  private(set) var node: SimulatedNode?
  private var channel: EmbeddedChannel?
  private var received = ByteBuffer()
  private var pending: Request?
  private var sentAt: UInt64 = 0
  private var sequence: Int64 = 0
  /// A write whose fate is unknown, and the key that makes it safe to ask again.
  private var repeatable: (id: Int64, key: String)?

  /// Writes by the id of their row.
  private(set) var fates: [Int64: Fate] = [:]
  private(set) var token: Token?
  /// Since the last change of history: rows that must be there, and the most that was seen.
  private var rowsSure = 0
  private var seenMost: Int64 = 0
  private(set) var answers = 0
  var isPaused = false

  static let patience: UInt64 = 30_000_000_000

  init(number: Int, simulation: Simulation, seed: UInt64) {
    self.number = number
    self.simulation = simulation
    chance = SeededGenerator(exactly: seed)
  }

  var isIdle: Bool { pending == nil }
  private func pick(_ count: Int) -> Int { Int(chance.next() % UInt64(count)) }

  // MARK: Connection

  /// Lets go of the node, as when the connection breaks.
  func disconnect() {
    if let channel, let node, node.isUp, channel.isActive {
      node.run { _ = channel.close() }
    }
    channel = nil
    node = nil
    received = ByteBuffer()
    lose()
  }

  /// Nobody will answer any more.
  private func lose() {
    guard let request = pending else { return }
    pending = nil
    switch request {
    case .write(let id, let key, _):
      fates[id] = .unknown
      repeatable = key.map { (id, $0) }
    case .transaction(let id, let rest, let failed):
      fates[id] = rest.isEmpty && !failed ? .unknown : .refused
    case .read, .other: break
    }
  }

  private func connect(to node: SimulatedNode) {
    guard let server = node.lineServer, node.mayRun else { return }
    self.node = node
    node.run {
      let channel = EmbeddedChannel(
        handler: server.makeSession(on: node.clientLoop), loop: node.clientLoop)
      _ = try? channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1))
      self.channel = channel
    }
  }

  // MARK: Steps

  /// Whether there is something to do now.
  var mayStep: Bool {
    if isPaused, pending == nil { return false }
    guard let node, let channel else { return true }
    if !node.isUp || node.isDead || !channel.isActive { return true }
    if node.isSuspended { return isLate }
    return true
  }

  private var isLate: Bool { pending != nil && simulation.now - sentAt > Self.patience }

  /// Reads what was answered, or sends the next request.
  func step() throws(Violation) {
    if let node, let channel {
      try receive()
      if !node.isUp || node.isDead || !channel.isActive || isLate { disconnect() }
    }
    guard pending == nil, !isPaused else { return }
    if channel == nil || pick(12) == 0 {
      disconnect()
      let candidates = simulation.nodes.filter { $0.isServing && $0.mayRun }
      guard !candidates.isEmpty else { return }
      connect(to: candidates[pick(candidates.count)])
    }
    guard channel != nil else { return }
    if let (id, key) = repeatable, pick(3) == 0 {
      repeatable = nil
      return write(id, key: key, isRepeat: true)
    }
    switch pick(10) {
    case 0...3: read()
    case 4: beginTransaction()
    case 5 where simulation.plan.vacuum && pick(20) == 0:
      send(.other, "{\"sql\":\"VACUUM\"\(tokenMember)}")
    case 6 where pick(4) == 0: bulk()
    default:
      sequence += 1
      let id = Int64(number) * 1_000_000 + sequence
      write(id, key: pick(3) == 0 ? "key\(id)" : nil, isRepeat: false)
    }
  }

  private var tokenMember: String { token.map { ",\"token\":\"\($0)\"" } ?? "" }

  private func send(_ request: Request, _ line: String) {
    guard let channel, let node else { return }
    pending = request
    sentAt = simulation.now
    node.run { _ = try? channel.writeInbound(ByteBuffer(string: line + "\n")) }
  }

  /// The statements of one write: all transactions keep the same sums.
  static func statements(id: Int64, client: Int, from: Int, to: Int, pad: Int) -> [String] {
    [
      "INSERT INTO log(id, client, pad) VALUES (\(id), \(client), hex(randomblob(\(pad))))",
      "UPDATE meta SET n = n + 1",
      "UPDATE bank SET balance = balance - 3 WHERE id = \(from)",
      "UPDATE bank SET balance = balance + 3 WHERE id = \(to)",
    ]
  }
  static let accounts = 8

  private func newStatements(_ id: Int64) -> [String] {
    let pad = pick(8) == 0 ? 200 + pick(3000) : pick(60)
    return Self.statements(
      id: id, client: number, from: 1 + pick(Self.accounts), to: 1 + pick(Self.accounts), pad: pad)
  }

  private func write(_ id: Int64, key: String?, isRepeat: Bool) {
    let batch = newStatements(id).map { "{\"sql\":\"\($0)\"}" }.joined(separator: ",")
    let keyMember = key.map { ",\"key\":\"\($0)\"" } ?? ""
    send(
      .write(id: id, key: key, isRepeat: isRepeat),
      "{\"batch\":[\(batch)]\(keyMember)\(tokenMember)}")
  }

  private func bulk() {
    let sql =
      pick(2) == 0
      ? "INSERT INTO bulk(data) VALUES (randomblob(\(1000 + pick(20_000))))"
      : "DELETE FROM bulk WHERE rowid % 2 = \(pick(2))"
    send(.other, "{\"sql\":\"\(sql)\"\(tokenMember)}")
  }

  private func beginTransaction() {
    sequence += 1
    let id = Int64(number) * 1_000_000 + sequence
    let rest = ["SELECT n FROM meta"] + newStatements(id) + ["COMMIT"]
    let begin = pick(2) == 0 ? "BEGIN" : "BEGIN IMMEDIATE"
    fates[id] = .refused
    send(.transaction(id: id, rest: rest, failed: false), "{\"sql\":\"\(begin)\"\(tokenMember)}")
  }

  private static let checks = [
    "SELECT n FROM meta", "SELECT count(*) FROM log", "SELECT sum(balance) FROM bank",
  ]

  private func read() {
    let sql = Self.checks + ["SELECT count(*) FROM log WHERE client = \(number)"]
    let batch = sql.map { "{\"sql\":\"\($0)\"}" }.joined(separator: ",")
    let place = ["local", "local", "local", "latest", "primary"][pick(5)]
    let onLag = pick(2) == 0 ? "error" : "forward"
    send(
      .read(node: node?.name ?? ""),
      "{\"batch\":[\(batch)],\"read\":\"\(place)\",\"on_lag\":\"\(onLag)\"\(tokenMember)}")
  }

  // MARK: Answers

  private func receive() throws(Violation) {
    guard let channel, let node else { return }
    while let bytes = try? channel.readOutbound(as: ByteBuffer.self) {
      // What a dead node still says reaches nobody.
      if !node.isDead { received.writeImmutableBuffer(bytes) }
    }
    while let end = received.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) {
      guard let line = received.readSlice(length: end - received.readerIndex + 1),
        let answer = try? JSONValue.parse(line)
      else { throw Violation("client \(number) got a line that is no JSON") }
      answers += 1
      try take(answer)
    }
  }

  private func take(_ answer: JSONValue) throws(Violation) {
    guard let request = pending else {
      throw Violation("client \(number) got an answer that it did not ask for")
    }
    pending = nil
    let error = answer["error"]?["code"]?.text
    let shown = token
    var told: Token?
    if let text = answer["token"]?.text {
      told = Token(text)
      if let told, let shown, error == nil {
        guard told.replicationIndex >= shown.replicationIndex else {
          throw Violation(
            "client \(number) showed \(shown) to \(node?.name ?? "?") and was told \(told)")
        }
      }
    }
    simulation.trace(
      "client \(number) at \(node?.name ?? "?"): \(request) shown \(shown.map { "\($0)" } ?? "nothing"), "
        + "told \(told.map { "\($0)" } ?? "nothing") \(error ?? "")")
    if error == "TOKEN_EPOCH" { forget() } else if let told, error == nil { token = told }
    switch request {
    case .write(let id, let key, let isRepeat):
      // Only a change of primary, to one with another clock, makes it forget a key.
      if isRepeat, let error, error.hasPrefix("SQLITE_CONSTRAINT"), !simulation.plan.isLossy {
        throw Violation("write \(id) was made, and its repeat with the same key again: \(error)")
      }
      noteFate(id, key: key, isRepeat: isRepeat, error: error, told)
    case .read(let place):
      if error == nil { try check(answer, at: place, told) }
    case .transaction(let id, let rest, let failed):
      continueTransaction(id, rest, failed: failed, error: error, told)
    case .other: break
    }
  }

  /// Another history: what was seen of the former one may be gone.
  private func forget() {
    token = nil
    rowsSure = 0
    seenMost = 0
  }

  private func noteFate(_ id: Int64, key: String?, isRepeat: Bool, error: String?, _ told: Token?) {
    switch error {
    case nil:
      guard let told else { return }
      if fates[id] == nil || fates[id] == .unknown { rowsSure += 1 }
      fates[id] = .acknowledged(told)
    case "OUTCOME_UNKNOWN":
      fates[id] = .unknown
      repeatable = key.map { (id, $0) }
    default:
      // The first attempt may have been made all the same.
      if !isRepeat { fates[id] = .refused }
    }
  }

  private func continueTransaction(
    _ id: Int64, _ rest: [String], failed: Bool, error: String?, _ told: Token?
  ) {
    var rest = rest
    let hasFailed = failed || error != nil
    if rest.isEmpty {
      // That was the COMMIT, or the ROLLBACK of what had failed.
      if failed { return }
      noteFate(id, key: nil, isRepeat: false, error: error, told)
      return
    }
    if hasFailed {
      return send(.transaction(id: id, rest: [], failed: true), "{\"sql\":\"ROLLBACK\"}")
    }
    let next = rest.removeFirst()
    send(.transaction(id: id, rest: rest, failed: false), "{\"sql\":\"\(next)\"}")
  }

  private func check(_ answer: JSONValue, at place: String, _ told: Token?) throws(Violation) {
    guard case .array(let results)? = answer["results"], results.count == 4 else {
      throw Violation("client \(number) got a batch without its four results")
    }
    let numbers = results.map { $0["rows"]?[0]?[0]?.number ?? -1 }
    let (n, rows, sum, own) = (numbers[0], numbers[1], numbers[2], numbers[3])
    simulation.trace("  n is \(n), own rows \(own)")
    guard n == rows, sum == Int64(Self.accounts) * 100 else {
      throw Violation(
        "client \(number) read no single state at \(place): n is \(n), rows \(rows), sum \(sum)")
    }
    guard n >= seenMost else {
      throw Violation("client \(number) saw \(seenMost) writes before, and \(n) now, at \(place)")
    }
    guard own >= Int64(rowsSure) else {
      throw Violation("client \(number) has \(rowsSure) rows for sure, and \(place) shows \(own)")
    }
    let most = fates.values.filter { $0 != .refused }.count
    guard own <= Int64(most) else {
      throw Violation("client \(number) wrote \(most) rows at most, and \(place) shows \(own)")
    }
    seenMost = n
  }
}

extension JSONValue {
  subscript(_ key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  subscript(_ index: Int) -> JSONValue? {
    guard case .array(let elements) = self, index < elements.count else { return nil }
    return elements[index]
  }

  var text: String? { if case .string(let text) = self { text } else { nil } }
  var number: Int64? { if case .integer(let number) = self { number } else { nil } }
}
