// The WAL stays bounded on both sides, whoever reads and writes the files beside the nodes.

import EdgeTesting
import Serving
import Store
import Synchronization
import Testing

extension NodeTests {
  @Suite struct CheckpointTests {
    private static let flags = ["--checkpoint-frames", "200"]

    private static func makeCluster() throws -> Cluster {
      let cluster = try Cluster(primaryArguments: flags, replicaArguments: flags) { path in
        let connection = try Connection(path: path, mode: .create)
        try connection.execute(
          "\(WriteLoad.schema); CREATE TABLE wide(id INTEGER PRIMARY KEY, b BLOB);"
            + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 200)"
            + "INSERT INTO wide SELECT i, zeroblob(3000) FROM s")
      }
      try cluster.settle()
      return cluster
    }

    /// At no moment is there nobody who reads one of the files with a SQLite of his own; still both
    /// logs begin anew, again and again.
    @Test(.enabled(if: Deadline.patience == 1, "under a sanitizer no reader ends within 30 ms"))
    func row30_overlappingReadersDoNotKeepTheLog() throws {
      let cluster = try Self.makeCluster()
      let nodes = [cluster.primary, cluster.replica]
      let readers = nodes.map { FileReaders(path: $0.database, count: 4) }
      let load = PageLoad(port: cluster.primary.listenPort)
      var longest = [0, 0]
      var written = 0
      let framesMax = 8000
      let deadline = Deadline.seconds(60)
      while written < 2 * framesMax, !deadline.isOver {
        for (index, node) in nodes.enumerated() {
          let status = try node.report()
          longest[index] = max(longest[index], Int(status["wal"]?["frames"]?.integer ?? .max))
        }
        written = load.frames
      }
      try load.stop()
      let reads = try readers.map { try $0.stop() }
      try cluster.settle()
      let restarts = try nodes.map { try $0.report()["checkpoints"]?["restarts"]?.integer ?? 0 }
      note(
        "beside \(reads) overlapping reads of the files, \(written) frames: WALs of \(longest) "
          + "frames at most, begun anew \(restarts) times")
      #expect(longest.allSatisfy { $0 < framesMax })
      #expect(restarts.allSatisfy { $0 >= 2 })
      try cluster.requireEqual()
    }

    /// A transaction that reads for seconds keeps its snapshot, and the WAL; the status says so.
    /// When it ends the WAL begins anew, and its file is cut.
    @Test func row31_aLongReaderPinsTheLogAndThenLetsGo() throws {
      let cluster = try Self.makeCluster()
      let nodes = [cluster.primary, cluster.replica]
      let limit = try #require(
        try cluster.primary.report()["checkpoints"]?["limit_frames"]?.integer)
      #expect(limit == 800)
      var pinned: [Int64] = []
      do {
        let readers = try nodes.map { try Connection(path: $0.database, mode: .readOnly) }
        for reader in readers { try reader.execute("BEGIN") }
        let before = try readers.map { try $0.query(Self.sums) }
        let load = PageLoad(port: cluster.primary.listenPort)
        try eventually("WALs that are pinned", deadline: .seconds(60)) {
          pinned = try nodes.map { try $0.report()["checkpoints"]?["pinned_ms"]?.integer ?? 0 }
          #expect(try readers.map { try $0.query(Self.sums) } == before)
          return pinned.allSatisfy { $0 > 2000 }
        }
        try load.stop()
        try cluster.settle()
        #expect(try readers.map { try $0.query(Self.sums) } == before)
        for reader in readers { try reader.execute("COMMIT") }
        let after = try readers.map { try $0.query(Self.sums) }
        #expect(after[0] == after[1] && after[0] != before[0])
      }
      let grown = nodes.map { Files.size($0.database + "-wal") }
      let bytesMax = 32 + Int(limit) * (4096 + 24)
      #expect(grown.allSatisfy { $0 > bytesMax })
      let load = PageLoad(port: cluster.primary.listenPort)
      try eventually("short WALs", deadline: .seconds(30)) {
        nodes.allSatisfy { Files.size($0.database + "-wal") <= bytesMax }
      }
      try load.stop()
      try cluster.settle()
      try eventually("WALs that nobody pins") {
        try nodes.allSatisfy { try $0.report()["checkpoints"]?["pinned_ms"] == .null }
      }
      note("-wal files pinned for \(pinned) ms grew to \(grown) bytes, and were cut again")
      for node in nodes {
        let log = try node.report()["wal"]
        #expect(log?["file_bytes"]?.integer == Int64(Files.size(node.database + "-wal")))
      }
      try cluster.requireEqual()
    }

    /// Nodes that are stopped under load, so that a checkpoint is always under way: they end in
    /// order, and nothing is done on threads that are gone.
    @Test func row30_stoppedInTheMiddleOfACheckpoint() throws {
      let cluster = try Self.makeCluster()
      let nodes = [cluster.replica, cluster.primary]
      let load = WriteLoad(ports: [cluster.primary.listenPort], threads: 2, depth: 16)
      for round in 0..<8 {
        let before = load.acknowledgedCount
        try eventually("writes") { load.acknowledgedCount > before + 100 }
        #expect(try nodes[round % 2].terminate() == .exited(0))
        try nodes[round % 2].start()
      }
      let outcome = try load.stop()
      try cluster.requireEqual()
      #expect(try outcome.problems(in: cluster.replica.database) == [])
      for node in nodes {
        for fault in ["already shut down", "a checkpoint failed"] {
          #expect(!node.errorText.contains(fault), "\(node.errorText)")
        }
      }
    }

    private static let sums = "SELECT count(*), sum(length(b)), max(hex(b)) FROM wide"

    /// Other programs commit, and try to empty both logs, all the time: on the primary they must
    /// not before everything was captured, on the replica they never can.
    @Test func row30_othersTruncateWithoutEnd() throws {
      let cluster = try Self.makeCluster()
      let nodes = [cluster.primary, cluster.replica]
      let stops = Flag()
      let tries = nodes.map { node in
        let path = node.database
        return BackgroundThread {
          // Patient: on a replica such a program would wait for the writer all this time, with the
          // checkpoint lock in its hand.
          let connection = try Connection(path: path, mode: .readWrite)
          connection.setBusyTimeout(milliseconds: 2000)
          while !stops.isSet {
            _ = try connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
            elapse(seconds: 0.0005)
          }
        }
      }
      let path = cluster.primary.database
      let rows = 500
      let writers = (0..<2).map { number in
        BackgroundThread {
          let connection = try Connection(path: path, mode: .readWrite)
          connection.waitForLocks(milliseconds: 60_000)
          for row in 0..<rows {
            try connection.execute(
              "INSERT INTO log(id, body) VALUES (\(5_000_000 * (number + 1) + row), 'foreign');"
                + "UPDATE wide SET b = randomblob(3000) WHERE id % 100 = \(row % 100)")
          }
        }
      }
      let load = WriteLoad(ports: nodes.map(\.listenPort), threads: 2, depth: 2)
      var longest = 0
      let isWriting = Flag()
      let watch = BackgroundThread {
        for writer in writers { try writer.join() }
        isWriting.set()
      }
      while !isWriting.isSet {
        longest = max(longest, Int(try cluster.replica.report()["wal"]?["frames"]?.integer ?? 0))
      }
      try watch.join()
      let outcome = try load.stop()
      stops.set()
      for thread in tries { try thread.join() }
      try cluster.requireEqual()
      let client = try cluster.replica.connect()
      #expect(
        try client.integer("SELECT count(*) FROM log WHERE body = 'foreign'") == Int64(2 * rows))
      #expect(try outcome.problems(in: cluster.replica.database) == [])
      note("beside TRUNCATE without end the replica's WAL had \(longest) frames at most")
      #expect(longest < 4000)
    }
  }
}

/// A writer that changes many pages of `wide` with each commit, at a pace that no machine exceeds:
/// what a WAL may hold can then be said in frames.
private final class PageLoad: Sendable {
  private let stops = Flag()
  private let count: Counter
  private let thread: BackgroundThread

  init(port: Int) {
    let (stops, count) = (stops, Counter())
    self.count = count
    thread = BackgroundThread {
      let client = try LineConnection(port: port)
      var round = 0
      while !stops.isSet {
        round += 1
        try client.run("UPDATE wide SET b = randomblob(3000) WHERE id % 10 = \(round % 10)")
        count.add(21)
        elapse(seconds: 0.004)
      }
    }
  }

  /// Frames that were written at least.
  var frames: Int { count.value }

  func stop() throws {
    stops.set()
    try thread.join()
  }
}

/// Threads that read a file with connections of their own, one beginning before another ends.
private final class FileReaders: Sendable {
  private let stops = Flag()
  private let count: Counter
  private let threads: [BackgroundThread]

  init(path: String, count number: Int) {
    let (stops, count) = (stops, Counter())
    self.count = count
    threads = (0..<number).map { _ in
      BackgroundThread {
        let connection = try Connection(path: path, mode: .readOnly)
        connection.setBusyTimeout(milliseconds: 5000)
        while !stops.isSet {
          try connection.execute("BEGIN")
          let first = try connection.query("SELECT sum(length(b)), max(hex(b)) FROM wide")
          elapse(seconds: 0.002)
          let second = try connection.query("SELECT sum(length(b)), max(hex(b)) FROM wide")
          guard first == second else { throw TestFailure("a snapshot moved") }
          try connection.execute("COMMIT")
          count.add(1)
        }
      }
    }
  }

  /// Ends the readers and tells how many transactions they made.
  func stop() throws -> Int {
    stops.set()
    for thread in threads { try thread.join() }
    return count.value
  }
}

/// A number that threads share.
private final class Counter: Sendable {
  private let number = Atomic<Int>(0)
  var value: Int { number.load(ordering: .relaxed) }
  func add(_ more: Int) { number.wrappingAdd(more, ordering: .relaxed) }
}
