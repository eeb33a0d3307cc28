// Programs beside the nodes: stock SQLite on the same files. They write to the primary's, read for
// long, and look at a replica's at any moment, also in the middle of what it does.

import EdgeTesting
import NIOCore
import Serving
import Store
import WALShip

/// The other programs of a simulation.
final class ForeignPrograms {
  private unowned let simulation: Simulation
  private var chance: SeededGenerator
  private var sequence: Int64 = 0
  /// Open snapshots, and what they showed first.
  private var longReaders: [Int: (connection: Connection, seen: [[Value]])] = [:]
  private var witnesses: [Int: Witness] = [:]
  static let client = 99
  private static let snapshotQuery =
    "SELECT n, (SELECT count(*) FROM log), (SELECT sum(length(pad)) FROM log), "
    + "(SELECT group_concat(balance) FROM bank) FROM meta"

  /// A reader of a replica's file that looks again and again.
  private struct Witness {
    var connection: Connection
    var folder: String
    var epoch: Epoch
    var seenMost: Int64 = 0
  }

  init(simulation: Simulation, seed: UInt64) {
    self.simulation = simulation
    chance = SeededGenerator(exactly: seed)
  }

  private func pick(_ count: Int) -> Int { Int(chance.next() % UInt64(count)) }

  /// Fills the new database of a primary.
  func makeDatabase(on node: SimulatedNode) throws {
    try node.disk.foreign {
      let connection = try Connection(path: node.path, mode: .readWrite)
      connection.setBusyTimeout(milliseconds: 1000)
      connection.keepLog()
      try connection.execute(
        """
        BEGIN;
        CREATE TABLE log(id INTEGER PRIMARY KEY, client INTEGER, pad TEXT);
        CREATE TABLE meta(n INTEGER);
        INSERT INTO meta VALUES (0);
        CREATE TABLE bank(id INTEGER PRIMARY KEY, balance INTEGER);
        CREATE TABLE bulk(data BLOB);
        """)
      for id in 1...SimulatedClient.accounts {
        try connection.execute("INSERT INTO bank VALUES (\(id), 100)")
      }
      try connection.execute("COMMIT")
    }
  }

  // MARK: Steps

  func step() throws {
    if simulation.plan.longReader, pick(3) == 0 { return toggleLongReader() }
    guard simulation.plan.foreignWriter else { return }
    let node = simulation.primary
    guard node.role == .primary, node.mayRun || !node.isUp, !node.isDead else { return }
    write(to: node)
  }

  private func write(to node: SimulatedNode) {
    sequence += 1
    let id = Int64(Self.client) * 1_000_000 + sequence
    let statements = SimulatedClient.statements(
      id: id, client: Self.client, from: 1 + pick(SimulatedClient.accounts),
      to: 1 + pick(SimulatedClient.accounts), pad: pick(80))
    let closing = pick(3)
    node.disk.foreign {
      guard Disk.exists(node.path),
        let connection = try? Connection(path: node.path, mode: .readWrite)
      else { return }
      connection.setBusyTimeout(milliseconds: 20)
      if pick(2) == 0 { try? connection.execute("PRAGMA synchronous=NORMAL") }
      if closing > 0 { connection.keepLog() }
      do {
        try connection.execute("BEGIN IMMEDIATE")
        for sql in statements { try connection.execute(sql) }
        try connection.execute("COMMIT")
      } catch { try? connection.execute("ROLLBACK") }
      if closing == 2 { try? connection.execute("PRAGMA wal_checkpoint(TRUNCATE)") }
    }
    simulation.trace("another program wrote to \(node.name)")
  }

  private func toggleLongReader() {
    let node = simulation.nodes[pick(simulation.nodes.count)]
    if let reader = longReaders.removeValue(forKey: node.number) {
      guard node.disk.remains == nil, !node.isRotten else { return }
      do {
        let seen = try node.disk.foreign {
          // What the reader has cached would hide what became of the files.
          try reader.connection.execute("PRAGMA shrink_memory")
          return try reader.connection.query(Self.snapshotQuery)
        }
        guard seen != reader.seen else { return }
        throw Violation("its snapshot changed: \(reader.seen), \(seen)")
      } catch {
        simulation.violation =
          simulation.violation ?? Violation("a long reader of \(node.name): \(error)")
      }
      return
    }
    guard node.isServing, !node.isDead else { return }
    node.disk.foreign {
      guard let connection = try? Connection(path: node.path, mode: .readOnly) else { return }
      guard (try? connection.execute("BEGIN")) != nil,
        let seen = try? connection.query(Self.snapshotQuery)
      else { return }
      longReaders[node.number] = (connection, seen)
    }
    simulation.trace("a program reads from \(node.name) for long")
  }

  /// Nobody has the files of a node open any more.
  func leave(_ node: SimulatedNode) {
    longReaders[node.number] = nil
    witnesses[node.number] = nil
  }

  func leaveAll() { longReaders = [:] }

  // MARK: Looking

  /// A stock reader looks at a replica in the middle of one of its calls.
  func witness(_ node: SimulatedNode) {
    guard let tracker = node.tracker, node.isServing, !node.isRotten else { return }
    node.disk.foreign {
      do {
        if witnesses[node.number]?.folder != node.disk.folder {
          let connection = try Connection(path: node.path, mode: .readOnly)
          witnesses[node.number] = Witness(
            connection: connection, folder: node.disk.folder, epoch: tracker.epochs.current)
        }
        guard var witness = witnesses[node.number] else { return }
        let epoch = tracker.epochs.current
        let row = try witness.connection.query(
          "SELECT n, (SELECT count(*) FROM log), (SELECT sum(balance) FROM bank) FROM meta"
        ).first
        guard case .integer(let n)? = row?[0], case .integer(let count)? = row?[1],
          case .integer(let sum)? = row?[2]
        else { return }
        simulation.counts.checks += 1
        if n != count || sum != Int64(SimulatedClient.accounts) * 100 {
          throw Violation(
            "a stock reader of \(node.name) saw no single state: n is \(n), rows \(count), sum \(sum)"
          )
        }
        if witness.epoch == epoch, n < witness.seenMost, !simulation.plan.isLossy {
          throw Violation(
            "a stock reader of \(node.name) saw \(witness.seenMost) writes, then \(n)")
        }
        witness.seenMost = n
        witness.epoch = epoch
        witnesses[node.number] = witness
      } catch let violation as Violation {
        simulation.violation = simulation.violation ?? violation
      } catch let error as SQLiteError where error.primaryCode == SQLiteError.busy {
        // The index is being recovered, or the file opened.
      } catch {
        if node.disk.remains == nil {
          simulation.violation =
            simulation.violation ?? Violation("a stock reader of \(node.name) failed: \(error)")
        }
      }
    }
  }

  /// Whether a primary takes a write.
  func probe(_ node: SimulatedNode) -> Bool {
    guard let context = node.context else { return false }
    let isWell = NIOLoopBoundBox<Bool?>(nil, eventLoop: node.clientLoop)
    node.run {
      context.primary.submit(EngineRequest(.position), on: node.clientLoop) { response in
        isWell.value = response.failure == nil
      }
    }
    simulation.drain(node) { isWell.value != nil }
    return isWell.value ?? false
  }

  /// The ids of the rows that are there; each is there once.
  func rows(of node: SimulatedNode) throws -> Set<Int64> {
    try node.disk.foreign {
      let connection = try Connection(path: node.path, mode: .readOnly)
      let rows = try connection.query("SELECT id FROM log")
      let check = try connection.query("PRAGMA integrity_check").first?.first
      guard check == .text("ok") else { throw Violation("\(node.name): \(check ?? .null)") }
      return Set(rows.compactMap { if case .integer(let id)? = $0.first { id } else { nil } })
    }
  }
}
