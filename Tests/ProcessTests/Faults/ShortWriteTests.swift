// Writes that the system ends before their end, in SQLite as in the engine. Row 6 of the fault
// matrix; `DiskFaultTests` has the short ones that go on.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

extension NodeTests {
  @Suite struct ShortWriteTests {
    private static let strace = Program(named: "strace")
    private static let prlimit = Program(named: "prlimit")

    /// A process whose files may not grow beyond a size: the write that crosses it is cut there,
    /// and the next one fails with EFBIG.
    @Test(
      .enabled(if: ShortWriteTests.prlimit != nil, "there is no prlimit here"),
      arguments: [NodeProcess.Role.primary, .replica])
    func row06_writesThatAreCutInTheMiddle(role: NodeProcess.Role) throws {
      var random = SeededGenerator(seed: 6)
      let prlimit = try #require(Self.prlimit)
      // A WAL that is never begun anew grows beyond any limit.
      let flags = ["--checkpoint-frames", "100000"]
      let cluster = try Cluster(primaryArguments: flags, replicaArguments: flags) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      let node = role == .primary ? cluster.primary : cluster.replica
      // The signal that comes with EFBIG would end it.
      node.launcher = ["/bin/sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]
      try node.terminate()
      try node.start()
      let load = WorkloadSet(
        ports: cluster.ports, random: &random,
        tolerated: ["SQLITE_IOERR_WRITE", "SQLITE_FULL", "SQLITE_IOERR"])
      try load.progress(3)
      for round in 0..<3 {
        // The WAL is the file that grows. The limit is in the middle of a page, and of a word.
        let size = Files.size(node.database + "-wal") + 9001 + 3 * round
        try set(prlimit, node, "\(size):")
        try eventually("a write that is cut", deadline: .seconds(30)) {
          try role == .primary
            ? refusals(load) > 0 && Files.size(node.database + "-wal") >= size
            : node.status("upstream", "last_error")?.text?.contains("large") == true
        }
        #expect(node.isRunning)
        try set(prlimit, node, "unlimited:")
        try load.progress(3)
      }
      try load.stop()
      note("\(role.rawValue) whose writes are cut: \(load.summary)")
      try cluster.requireEqual()
      for node in cluster.nodes { try load.require(in: node) }
    }

    /// Writes at whose statements, or at whose commit, the disk failed.
    private func refusals(_ load: WorkloadSet) throws -> Int {
      load.workloads.reduce(0) {
        $0 + $1.tally.unknownCount + ($1.tally.refusals["SQLITE_IOERR_WRITE"] ?? 0)
      }
    }

    private func set(_ prlimit: Program, _ node: NodeProcess, _ limit: String) throws {
      let result = try prlimit.run(["--pid", "\(node.pid)", "--fsize=\(limit)"])
      guard result.succeeded else { throw TestFailure("prlimit: \(result.error)") }
    }

    /// Every third read and write of both nodes is interrupted by a signal before it began.
    @Test(.enabled(if: ShortWriteTests.strace != nil, "there is no strace here"))
    func row06_interruptedReadsAndWrites() throws {
      var random = SeededGenerator(seed: 66)
      let strace = try #require(Self.strace)
      let cluster = try Cluster(replicas: 1) { path in
        try Connection(path: path, mode: .create).execute(WorkloadSet.schema)
      }
      try cluster.settle()
      let load = WorkloadSet(ports: cluster.ports, random: &random)
      try load.progress(2)
      let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
      defer { close(nothing) }
      // Once the nodes run: the loader of programs does not try again.
      let tracers = try cluster.nodes.map { node in
        try ChildProcess(
          strace.path,
          [
            "-f", "-q", "-o", node.database + ".calls", "-p", "\(node.pid)", "-e",
            "trace=pread64,pwrite64", "-e", "inject=pread64,pwrite64:error=EINTR:when=2+3",
          ], input: nothing, output: nothing, error: nothing)
      }
      try eventually("the tracers", deadline: .seconds(30)) {
        cluster.nodes.allSatisfy { Files.size($0.database + ".calls") > 0 }
      }
      try load.progress(5)
      try load.stop()
      try cluster.settle()
      for (node, tracer) in zip(cluster.nodes, tracers) {
        try node.terminate()
        _ = try tracer.wait()
        let calls = Files.text(node.database + ".calls").split(separator: "\n")
        let interrupted = calls.count { $0.contains("EINTR") }
        note("\(interrupted) of \(calls.count) calls interrupted")
        #expect(interrupted > 10)
        try load.require(in: node)
      }
      try samePages(cluster.primary.database, cluster.replica.database)
    }
  }
}
