// Memory of nodes: with a large database and many replicas, and for clients that do nothing.

import Glibc

enum MemoryBenchmark {
  private static let megabytes = 1000
  private static let replicas = 8
  private static let clients = 1000
  private static let nodeMegabytes = 96.0, clientBytes = 16.0 * 1024

  static func run(_ run: Run) async throws -> GroupReport {
    let primary = try NodeProcess.primary(
      run.programs, run.folder.makeLarge(megabytes: megabytes))
    var followers: [NodeProcess] = []
    for _ in 0..<replicas {
      followers.append(
        try NodeProcess.replica(run.programs, of: primary.ship, run.folder.newPath()))
    }
    for replica in followers { try replica.waitUntilEqual(to: primary) }
    let load = try Load(
      port: primary.line, connections: 16, requests: WriteLines.updates(),
      expected: "\"changes\":1")
    _ = try load.run(seconds: 5)
    for replica in followers { try replica.waitUntilEqual(to: primary) }
    var report = GroupReport(
      name: "memory",
      subject: "a database of \(megabytes) MB, \(replicas) replicas, after 5 s of writes")
    let most = nodeMegabytes * 1e6
    report.figures = [
      figure("primary, all but mapped files", primary.process.anonymousBytes, .atMost(most)),
      figure("primary, everything", primary.process.residentBytes),
      figure("primary, most at any time", primary.process.peakBytes),
      figure("replica, all but mapped files", followers[0].process.anonymousBytes, .atMost(most)),
      figure("replica, most at any time", followers[0].process.peakBytes),
    ]
    for (name, node) in [("primary", primary), ("replica", followers[0])] {
      report.figures.append(
        figure("an idle client of a \(name)", try perClient(node), .atMost(clientBytes)))
    }
    return report
  }

  /// Clients that have asked once and stay.
  private static func perClient(_ node: NodeProcess) throws -> Double {
    let before = node.process.anonymousBytes
    var sockets: [ClientSocket] = []
    for _ in 0..<clients {
      let socket = try node.client()
      _ = try socket.run("[\"SELECT name FROM t WHERE id = ?\",7]")
      sockets.append(socket)
    }
    return (node.process.anonymousBytes - before) / Double(sockets.count)
  }

  private static func figure(_ name: String, _ bytes: Double, _ target: Target? = nil) -> Figure {
    Figure(name: name, edge: Series(name: "", unit: .bytes, values: [bytes]), target: target)
  }
}
