// Disk operations that fail: the replica says so, keeps what it had, and comes to the same pages
// once the disk works again; the primary acknowledges nothing that it could not make durable. Rows
// 6 to 9 of the fault matrix.

import EdgeTesting
import Glibc
import Logging
import Primary
import Replica
import Serving
import Store
import TestTraits
import Testing

@Suite(.services) struct DiskFaultTests {
  private let faults = FaultyFiles.shared

  private func primary(_ directory: TestDirectory) async throws -> PrimaryService {
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    options.checkpointFrames = 50
    options.logger.logLevel = .critical
    return try await PrimaryService(
      configuration: PrimaryConfiguration(
        databasePath: directory.file("p.db"), options: options))
  }

  private func replica(
    _ directory: TestDirectory, of primary: PrimaryService
  ) async throws -> ReplicaService {
    var options = NodeOptions()
    options.checkpointFrames = 50
    options.logger.logLevel = .critical
    let upstream = NodeAddress(host: "127.0.0.1", port: try #require(primary.shipAddress?.port))
    return try await ReplicaService(
      configuration: ReplicaConfiguration(
        databasePath: directory.file("r.db"), upstreams: [upstream], options: options))
  }

  private func write(_ client: LineConnection, _ count: Int) throws {
    for _ in 0..<count { try client.run("INSERT INTO t(b) VALUES (randomblob(3000))") }
  }

  /// What a replica does with its files, at several moments of its life.
  static let operations: [DiskOperation] = [
    .openCopy, .writeCopy, .readCopy, .syncCopy, .truncateCopy, .renameCopy, .removeFile,
    .syncDirectory, .openLog, .readLog, .writeLog, .syncLog, .truncateLog, .openPageMap,
    .growPageMap, .mapPageMap, .syncPageMap,
  ]

  @Test(arguments: operations, [0, 1, 5])
  func rows06to09_replicaOutlivesAFailedOperation(operation: DiskOperation, spared: Int)
    async throws
  {
    let directory = try TestDirectory()
    let primary = try await primary(directory)
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    try write(client, 60)
    let path = directory.file("r.db")
    faults.fail(operation, under: path, with: EIO, sparing: spared, times: 3)
    defer { faults.heal(path) }
    // The start itself may fail, and says so; then an operator, or systemd, starts it again.
    var replica: ReplicaService?
    for _ in 0..<8 where replica == nil {
      replica = try? await self.replica(directory, of: primary)
    }
    let running = try #require(replica, "it never started")
    try write(client, 200)
    try eventually("the replica follows", deadline: .seconds(30)) {
      running.position?.txid == primary.tracker.position.txid
    }
    #expect(running.position == primary.tracker.position)
    await running.stop()
    await primary.stop()
    faults.heal(path)
    try samePages(directory.file("p.db"), path)
  }

  /// Each call to the system moves a part of what it was given: the rest follows, on both sides.
  @Test(arguments: [99, 4095]) func row06_shortReadsAndWrites(bytes: Int) async throws {
    let directory = try TestDirectory()
    for name in ["p.db", "r.db"] { faults.shorten(under: directory.file(name), toBytes: bytes) }
    defer { for name in ["p.db", "r.db"] { faults.heal(directory.file(name)) } }
    let primary = try await primary(directory)
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    try write(client, 60)
    let replica = try await replica(directory, of: primary)
    try write(client, 200)
    try eventually("the replica follows") { replica.position == primary.tracker.position }
    for name in ["p.db", "r.db"] { #expect(faults.transfers(under: directory.file(name)) > 50) }
    await replica.stop()
    await primary.stop()
    try samePages(directory.file("p.db"), directory.file("r.db"))
  }

  /// fsync is never tried again: what may not be durable is not acknowledged, nor shipped.
  @Test func row09_failedSyncStopsThePrimary() async throws {
    let directory = try TestDirectory()
    let primary = try await primary(directory)
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    let replica = try await replica(directory, of: primary)
    try await replica.waitUntilReady()
    let shipped = primary.tracker.position
    faults.fail(.syncLog, under: directory.file("p.db"), with: EIO, times: 1)
    defer { faults.heal(directory.file("p.db")) }
    let foreign = try Connection(path: directory.file("p.db"), mode: .readWrite)
    foreign.waitForLocks(milliseconds: 5000)
    try foreign.execute("INSERT INTO t(b) VALUES ('not durable')")
    // A commit of the primary's own would sync the other one's frames as well.
    try eventually("the sync fails") { faults.isSpent(directory.file("p.db")) }
    try eventually("writes stop") { try client.query("INSERT INTO t(b) VALUES (1)").error != nil }
    // The disk works again, but a second sync would prove nothing of the first.
    try foreign.execute("INSERT INTO t(b) VALUES ('after the failure')")
    elapse(seconds: 0.5)
    #expect(primary.tracker.position == shipped)
    #expect(replica.position == shipped)
    await replica.stop()
    await primary.stop()
  }

  /// A checkpoint that cannot make the page map durable does not let the WAL begin anew.
  @Test func row09_failedCheckpointLosesNothing() async throws {
    let directory = try TestDirectory()
    let primary = try await primary(directory)
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    faults.fail(.syncPageMap, under: directory.file("p.db"), with: EIO)
    let replica = try await replica(directory, of: primary)
    try write(client, 200)
    let salts = primary.status.checkpoints
    #expect(salts.lastError != nil)
    #expect(salts.restarts == 0)
    faults.heal(directory.file("p.db"))
    try write(client, 300)
    try eventually("checkpoints work again") { primary.status.checkpoints.lastError == nil }
    try eventually("the replica follows") { replica.position == primary.tracker.position }
    await replica.stop()
    await primary.stop()
    try samePages(directory.file("p.db"), directory.file("r.db"))
  }
}
