// A large database: how a replica gets its first copy of it, how soon it answers when it starts again, and how much memory
// the nodes need.

import Glibc
import Store
import WALShip

enum CopyBenchmark {
  private static let megabytes = 524
  /// A copy takes seconds: fewer of them than of what takes microseconds.
  private static let rounds = 3
  private static let coldStartMilliseconds = 60.0

  static func run(_ run: Run) async throws -> GroupReport {
    let path = try run.folder.makeLarge(megabytes: megabytes)
    let primary = try NodeProcess.primary(run.programs, path)
    let ship = primary.ship
    let replicaPath = run.folder.newPath()
    let bytes = Double(try SmallFile.size(path))
    var sides = Alternation()
    let floor = sides.add([("the slowest of disk, LZ4 and loopback", .seconds)]) {
      [try Floor(path: path, copy: run.folder.newPath()).seconds()]
    }
    let copy = sides.add(
      [("", .seconds), ("", .bytes), ("", .seconds), ("", .seconds), ("", .bytes), ("", .bytes)]
    ) {
      run.folder.removeDatabase(replicaPath)
      let start = MonotonicTime.seconds
      let before = primary.process.cpuSeconds
      let replica = try NodeProcess.replica(run.programs, of: ship, replicaPath)
      try ColdStart.read(replica)
      let seconds = MonotonicTime.seconds - start
      return [
        seconds, Double(try primary.number("bytes_sent")), primary.process.cpuSeconds - before,
        replica.process.cpuSeconds, primary.process.peakBytes, replica.process.peakBytes,
      ]
    }
    let whole = sides.add("half of the file", .bytes) { bytes / 2 }
    let measured = try await sides.run(rounds: rounds)
    let warm = try ColdStart.measure(run, ship: ship, path: replicaPath, times: 7)
    primary.stop()
    let cold = try ColdStart.measure(run, ship: ship, path: replicaPath, times: 7)
    var report = GroupReport(
      name: "copy", subject: "a database of \(megabytes) MB of text, its first copy and its start")
    report.figures = [
      measured.figure(
        "first copy, start to first read", copy[0], over: floor[0], reach: .ratioAtMost(2)),
      measured.figure("bytes sent", copy[1], over: whole, reach: .ratioAtMost(1)),
      measured.figure("CPU of the primary", copy[2]),
      measured.figure("CPU of the replica", copy[3]),
      measured.figure("most memory of the primary", copy[4]),
      measured.figure("most memory of the replica", copy[5]),
      Figure(
        name: "start to first read, primary up", edge: warm,
        target: .atMost(coldStartMilliseconds * 1000)),
      Figure(
        name: "start to first read, primary down", edge: cold,
        target: .atMost(coldStartMilliseconds * 1000)),
    ]
    report.notes = [
      "the floor: cp and fsync, LZ4 of all pages on one thread, and the file through a socket; the slowest of them",
      "start: from the exec of the process to the answer of its first SELECT",
    ]
    return report
  }
}

/// How soon a replica that has its copy answers.
enum ColdStart {
  static func measure(_ run: Run, ship: Int, path: String, times: Int) throws -> Series {
    var series = Series(name: "", unit: .microseconds)
    for _ in 0..<times {
      let start = MonotonicTime.nanoseconds
      let replica = try NodeProcess.replica(run.programs, of: ship, path)
      try read(replica)
      series.values.append(Double(MonotonicTime.nanoseconds - start) / 1000)
      replica.stop()
    }
    return series
  }

  static func read(_ replica: NodeProcess) throws {
    let answer = try replica.client().run("[\"SELECT name FROM t WHERE id = ?\",7]")
    guard answer.hasPrefix("{\"cols\"") else { throw Failure(answer) }
  }
}

/// The least that a copy could take: each part alone.
private struct Floor {
  let path: String
  let copy: String

  func seconds() throws -> Double {
    let start = MonotonicTime.seconds
    let pages = try transfer { bytes, output in
      guard write(output, bytes.baseAddress, bytes.count) == bytes.count else {
        throw Failure("the copy cannot be written")
      }
    }
    let disk = MonotonicTime.seconds - start
    let compression = try compress()
    unlink(copy)
    return max(disk, compression, Double(pages) / Self.loopbackBytesPerSecond)
  }

  /// What a socket to this machine carries at least on anything that runs this: it is never the slowest part.
  private static let loopbackBytesPerSecond = 2e9

  /// - Returns: the bytes of the file.
  private func transfer(_ body: (UnsafeRawBufferPointer, Int32) throws -> Void) throws -> Int {
    let input = open(path, O_RDONLY | O_CLOEXEC)
    let output = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    defer {
      fsync(output)
      close(input)
      close(output)
    }
    var total = 0
    try withUnsafeTemporaryAllocation(byteCount: 1 << 20, alignment: 4096) { chunk in
      while true {
        let count = Glibc.read(input, chunk.baseAddress, chunk.count)
        guard count > 0 else { break }
        try body(UnsafeRawBufferPointer(rebasing: chunk[..<count]), output)
        total += count
      }
    }
    return total
  }

  private func compress() throws -> Double {
    guard let pageSize = PageSize(4096) else { throw Failure("no page size") }
    var encoder = PageEncoder(pageSize: pageSize)
    var payload = 0
    let start = MonotonicTime.seconds
    _ = try transfer { bytes, _ in
      for page in stride(from: 0, to: bytes.count, by: 4096) {
        let slice = UnsafeRawBufferPointer(rebasing: bytes[page..<page + 4096])
        payload += encoder.encode(page: slice, base: nil).payload.count
      }
    }
    guard payload > 0 else { throw Failure("nothing was compressed") }
    return MonotonicTime.seconds - start
  }
}
