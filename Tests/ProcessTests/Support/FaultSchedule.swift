// Faults of all kinds, drawn from a seed: the same seed gives the same faults in the same order.

import EdgeTesting
import Glibc
import Serving
import Store

/// What can happen to a cluster. Nodes and links are numbers; links begin at 0.
enum ClusterFault {
  case kill(Int)
  case stop(Int)
  case standStill(Int, seconds: Double)
  case cut(Int, after: Int, FaultProxy.Direction)
  case flip(Int, after: Int, FaultProxy.Direction)
  case silence(Int, seconds: Double)
  case delay(Int, milliseconds: Int)
  case throttle(Int, bytesPerSecond: Int)
  case partition(Int, seconds: Double)
  case heal
  case foreignWriter(commits: Int)
  case foreignCheckpoint(Int)
  case longReader(Int, faults: Int)
  case damagedPage(Int, byte: Int)
  case backup(Int)
  case vacuum
}

/// Draws faults and makes them, one after the other. It belongs to one thread.
final class FaultSchedule {
  private let cluster: Cluster
  private var random: SeededGenerator
  /// Nodes that may be killed and stopped; 0 is the primary.
  var mortal: [Int]
  /// Those that were made so far.
  private(set) var made: [String: Int] = [:]
  private(set) var count = 0
  private var readers: [(node: Int, connection: Connection, until: Int, before: Int64?)] = []
  private var foreignID: Int64 = -1
  /// The pages of replicas with a flipped bit. Where the WAL held the page as well, the bit shows
  /// only once all of the WAL was copied or it has begun anew, after the scrub that was to find it.
  private var flipped: [Int: Set<UInt32>] = [:]
  /// Pages of `ballast`, which nobody changes; see `prepare`.
  private static let ballastPages = 100...380

  init(cluster: Cluster, mortal: [Int], random: inout SeededGenerator) {
    self.cluster = cluster
    self.mortal = mortal
    self.random = random.fork()
  }

  /// The database that the faults need.
  static func prepare(_ path: String) throws {
    try Ballast.make(path, rows: 400)
    try Connection(path: path, mode: .readWrite).execute(WorkloadSet.schemaBesideLog)
  }

  // MARK: Drawing

  private func draw() -> ClusterFault {
    let node = Int.random(in: 0..<cluster.nodes.count, using: &random)
    let victim = mortal[Int.random(in: 0..<mortal.count, using: &random)]
    let link = Int.random(in: 0..<cluster.links.count, using: &random)
    let direction: FaultProxy.Direction = Bool.random(using: &random) ? .up : .down
    let seconds = Double.random(in: 0..<0.8, using: &random)
    let bytes = Int.random(in: 1..<9000, using: &random)
    switch Int.random(in: 0..<32, using: &random) {
    case 0..<6: return .kill(victim)
    case 6..<8: return .stop(victim)
    case 8..<10: return .standStill(node, seconds: seconds)
    case 10..<12: return .cut(link, after: bytes, direction)
    case 12..<14: return .flip(link, after: bytes, direction)
    case 14: return .silence(link, seconds: seconds)
    case 15: return .delay(link, milliseconds: 1 + bytes % 30)
    case 16: return .throttle(link, bytesPerSecond: 30_000 + bytes * 10)
    case 17: return .partition(link, seconds: seconds)
    case 18..<20: return .heal
    case 20..<23: return .foreignWriter(commits: 1 + bytes % 20)
    case 23..<25: return .foreignCheckpoint(node)
    case 25..<27: return .longReader(node, faults: 1 + bytes % 6)
    case 27..<29:
      return .damagedPage(
        max(1, node),
        byte: 4096 * .random(in: Self.ballastPages, using: &random) + bytes % 4096)
    case 29..<31: return .backup(node)
    default: return .vacuum
    }
  }

  // MARK: Making

  /// Makes the next fault, and waits for its end where it has one.
  ///
  /// - Throws: when a node does not come back, or does something else than it should.
  func next() throws {
    let fault = draw()
    count += 1
    let name = String("\(fault)".prefix { $0 != "(" })
    made[name, default: 0] += 1
    do {
      try endReaders(until: count)
      try make(fault)
    } catch {
      throw TestFailure("fault \(count), \(fault): \(error)")
    }
  }

  private func make(_ fault: ClusterFault) throws {
    let nodes = cluster.nodes
    switch fault {
    case .kill(let node):
      nodes[node].kill()
      try nodes[node].start()
    case .stop(let node):
      let status = try nodes[node].terminate()
      guard status == .exited(0) else { throw TestFailure("it ended with \(status)") }
      try nodes[node].start()
    case .standStill(let node, let seconds):
      nodes[node].suspend()
      elapse(seconds: seconds)
      nodes[node].resume()
    case .cut(let link, let bytes, let direction):
      cluster.links[link].cut(after: bytes, direction)
    case .flip(let link, let bytes, let direction):
      cluster.links[link].flipBit(after: bytes, direction)
    case .silence(let link, let seconds):
      cluster.links[link].pause()
      elapse(seconds: seconds)
      cluster.links[link].resume()
    case .delay(let link, let milliseconds):
      cluster.links[link].delay(milliseconds: milliseconds)
    case .throttle(let link, let rate): cluster.links[link].throttle(bytesPerSecond: rate)
    case .partition(let link, let seconds):
      cluster.links[link].partition()
      elapse(seconds: seconds)
      cluster.links[link].heal()
    case .heal: for link in cluster.links { link.heal() }
    case .foreignWriter(let commits): try writeBeside(commits)
    case .foreignCheckpoint(let node):
      let connection = try Connection(path: nodes[node].database, mode: .readWrite)
      connection.setBusyTimeout(milliseconds: 200)
      _ = try? connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
    case .longReader(let node, let faults): try read(node, until: count + faults)
    case .damagedPage(let node, let byte): try damage(node, byte)
    case .backup(let node): try backUp(nodes[node])
    case .vacuum:
      try eventually("a VACUUM") {
        let answer = try? nodes[0].connect().query("VACUUM", [], [("timeout_ms", 5000)])
        return answer != nil
      }
    }
  }

  /// Another program commits to the primary's file.
  private func writeBeside(_ commits: Int) throws {
    let connection = try Connection(path: cluster.primary.database, mode: .readWrite)
    connection.waitForLocks(milliseconds: 30_000)
    for _ in 0..<commits {
      try connection.execute("INSERT INTO log(id, body) VALUES (\(foreignID), 'beside')")
      foreignID -= 1
    }
  }

  /// Commits of the other program.
  var foreignCount: Int64 { -1 - foreignID }

  /// Another program reads a file in one transaction, beside the faults to come.
  private func read(_ node: Int, until: Int) throws {
    let connection = try Connection(path: cluster.nodes[node].database, mode: .readOnly)
    connection.setBusyTimeout(milliseconds: 30_000)
    try connection.execute("BEGIN")
    let sum = try connection.queryInteger("SELECT sum(seq) FROM log")
    readers.append((node, connection, until, sum))
  }

  private func endReaders(until fault: Int) throws {
    for reader in readers where reader.until <= fault {
      let sum = try reader.connection.queryInteger("SELECT sum(seq) FROM log")
      guard sum == reader.before else { throw TestFailure("the snapshot of a reader moved") }
    }
    readers.removeAll { $0.until <= fault }
  }

  /// A bit of a page that only a scrub reads.
  private func damage(_ node: Int, _ byte: Int) throws {
    // Closing a file drops the locks of this process on it.
    try endReaders(until: .max)
    let victim = cluster.nodes[node]
    try Files.flipBit(victim.database, at: byte)
    flipped[node, default: []].insert(UInt32(byte / 4096 + 1))
    cluster.links[node - 1].heal()
    try scrub(victim)
  }

  private func scrub(_ victim: NodeProcess) throws {
    try eventually("the page is found and sent again") {
      guard let client = try? victim.connect(),
        let answer = try? client.request(".scrub").json, answer["error"] == nil
      else { return false }
      return try victim.status("damage") == .null
    }
  }

  private func backUp(_ node: NodeProcess) throws {
    let path = cluster.directory.file("copy.db")
    for link in cluster.links { link.heal() }
    let arguments = ["backup", "127.0.0.1:\(node.listenPort)", path, "--force"]
    var result = try Program.edgeSQL().run(arguments)
    if !result.succeeded, result.error.contains("damaged"), isFlipped(node) {
      // No copy of a damaged page: rightly so.
      try scrub(node)
      result = try Program.edgeSQL().run(arguments)
    }
    guard result.succeeded else { throw TestFailure("the backup failed: \(result.error)") }
    _ = try BankLoad.transfers(in: path)
    for suffix in ["", "-wal", "-shm"] { unlink(path + suffix) }
  }

  private func isFlipped(_ node: NodeProcess) -> Bool {
    flipped.keys.contains { cluster.nodes[$0] === node }
  }

  /// Ends all faults.
  func end() throws {
    for link in cluster.links { link.heal() }
    try endReaders(until: .max)
  }

  /// Waits until all nodes have the same, and compares them. Flipped bits that show only now are for
  /// the scrub to find first; nothing else may differ.
  func requireEqual() throws {
    try cluster.settle()
    for (node, pages) in flipped {
      let victim = cluster.nodes[node]
      do {
        try samePages(cluster.primary.database, victim.database)
      } catch {
        let differing = try PageComparison(path: cluster.primary.database).differences(
          from: PageComparison(path: victim.database), limit: pages.count + 1)
        guard differing.allSatisfy({ pages.contains($0.pgno.rawValue) }) else { throw error }
        try scrub(victim)
      }
    }
    try cluster.requireEqual()
  }

  var summary: String {
    made.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
  }
}
