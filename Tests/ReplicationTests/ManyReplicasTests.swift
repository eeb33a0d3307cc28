// A hundred replicas in one process, as in a server that embeds them: each costs two threads.

import EdgeTesting
import Primary
import Replica
import Serving
import TestTraits
import Testing

@Suite(.services) struct ManyReplicasTests {
  /// A primary with an empty table, and a client of it.
  private static func primary(
    in directory: TestDirectory
  ) async throws -> (PrimaryService, LineConnection) {
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    let primary = try await PrimaryService(
      configuration: PrimaryConfiguration(
        databasePath: directory.file("primary.db"), options: options))
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
    return (primary, client)
  }

  @Test func aHundredReplicasOfOnePrimary() async throws {
    let count = 100
    let directory = try TestDirectory()
    let (primary, client) = try await Self.primary(in: directory)
    let upstream = NodeAddress(host: "127.0.0.1", port: try #require(primary.shipAddress?.port))
    let threads = Self.threadCount
    var replicas: [ReplicaService] = []
    for number in 0..<count {
      replicas.append(
        try await ReplicaService(
          configuration: ReplicaConfiguration(
            databasePath: directory.file("r\(number).db"), upstreams: [upstream])))
    }
    for replica in replicas { try await replica.waitUntilReady() }
    let perReplica = Double(Self.threadCount - threads) / Double(count)
    print("figure: \(perReplica) threads for each replica without listeners")
    #expect(perReplica < 3)
    for number in 1...500 {
      try client.run("INSERT INTO t VALUES (\(number), randomblob(\(number % 90 * 10)))")
    }
    let head = primary.tracker.position
    for replica in replicas {
      try eventually("every replica at \(head)") { replica.position == head }
    }
    for replica in replicas { await replica.stop() }
    await primary.stop()
    for number in 0..<count {
      try samePages(directory.file("primary.db"), directory.file("r\(number).db"))
    }
  }

  /// A replica that was stopped has let go of every lock on its file: the next one in this process
  /// writes it, and begins its WAL anew.
  @Test func aReplicaStopsAndStartsAgainInOneProcess() async throws {
    let directory = try TestDirectory()
    let (primary, client) = try await Self.primary(in: directory)
    let upstream = NodeAddress(host: "127.0.0.1", port: try #require(primary.shipAddress?.port))
    var own = NodeOptions()
    own.checkpointFrames = 20
    let path = directory.file("replica.db")
    let configuration = ReplicaConfiguration(
      databasePath: path, upstreams: [upstream], options: own)
    for _ in 0..<5 {
      let replica = try await ReplicaService(configuration: configuration)
      try await replica.waitUntilReady()
      try eventually("a WAL that begins anew, twice", deadline: .seconds(30)) {
        try client.run("INSERT INTO t(v) VALUES (randomblob(9000))")
        return replica.status.checkpoints.restarts >= 2
      }
      let head = primary.tracker.position
      try eventually("the replica at \(head)") { replica.position == head }
      await replica.stop()
    }
    await primary.stop()
    try samePages(directory.file("primary.db"), path)
  }

  /// Threads of this process.
  private static var threadCount: Int {
    for line in Files.text("/proc/self/status").split(separator: "\n")
    where line.hasPrefix("Threads:") {
      return line.split(separator: "\t").last.flatMap { Int($0) } ?? 0
    }
    return 0
  }
}
