// A primary of many databases and replicas of it in this process, each replica behind a proxy that
// counts connections and can break them.

import EdgeTesting
import Primary
import Replica
import Serving
import Store
import Testing
import WALShip

/// What a test of many databases at replicas begins with.
final class EdgeNodes {
  let directory: TestDirectory
  private(set) var primary: PrimaryDataService
  private(set) var replicas: [ReplicaDataService] = []
  private(set) var links: [FaultProxy] = []
  private var configurations: [ReplicaDataConfiguration] = []
  private let options: NodeOptions
  private let limits: OnDemandDatabases.Limits
  private let folder: String

  var replica: ReplicaDataService { replicas[0] }
  var link: FaultProxy { links[0] }

  private init(
    _ directory: TestDirectory, idleMilliseconds: Int, openMax: Int,
    verifier: (any CredentialVerifier)?
  ) async throws {
    self.directory = directory
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.http = NodeAddress(host: "127.0.0.1", port: 0)
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    options.verifier = verifier
    self.options = options
    var limits = OnDemandDatabases.Limits()
    limits.idleMilliseconds = idleMilliseconds
    limits.openMax = openMax
    self.limits = limits
    folder = directory.file("primary")
    primary = try await Self.start(folder, options, limits)
  }

  private static func start(
    _ folder: String, _ options: NodeOptions, _ limits: OnDemandDatabases.Limits
  ) async throws -> PrimaryDataService {
    var configuration = PrimaryDataConfiguration(folderPath: folder, options: options)
    configuration.databases = limits
    return try await PrimaryDataService(configuration: configuration)
  }

  /// Runs a test with a primary and some replicas, and stops them all.
  static func with(
    replicas count: Int = 1, filter: DatabaseFilter = .all, idleMilliseconds: Int = 60_000,
    openMax: Int = 100, verifier: (any CredentialVerifier)? = nil,
    _ body: (EdgeNodes) async throws -> Void
  ) async throws {
    let nodes = try await EdgeNodes(
      try TestDirectory(), idleMilliseconds: idleMilliseconds, openMax: openMax, verifier: verifier)
    do {
      for _ in 0..<count { try await nodes.addReplica(filter: filter) }
      try await body(nodes)
    } catch {
      await nodes.stop()
      throw error
    }
    await nodes.stop()
  }

  /// - Parameters:
  ///   - above: the number of the replica to follow; nil for the primary.
  ///   - bytesPerSecond: what its link carries; nil for as much as it can.
  func addReplica(
    filter: DatabaseFilter = .all, above: Int? = nil, bytesPerSecond: Int? = nil
  ) async throws {
    let port = above.map { replicas[$0].shipAddress?.port } ?? primary.shipAddress?.port
    let link = try FaultProxy(to: try #require(port))
    if let bytesPerSecond { link.throttle(bytesPerSecond: bytesPerSecond) }
    var configuration = ReplicaDataConfiguration(
      folderPath: directory.file("replica\(replicas.count)"),
      upstreams: [NodeAddress(host: "127.0.0.1", port: link.port)], options: options)
    configuration.filter = filter
    configuration.databases = limits
    links.append(link)
    configurations.append(configuration)
    replicas.append(try await ReplicaDataService(configuration: configuration))
  }

  // MARK: Life

  func stopReplica(_ number: Int = 0) async { await replicas[number].stop() }

  func startReplica(
    _ number: Int = 0, _ change: (inout ReplicaDataConfiguration) -> Void = { _ in }
  ) async throws {
    change(&configurations[number])
    replicas[number] = try await ReplicaDataService(configuration: configurations[number])
  }

  /// Stops the primary; its address is free.
  func stopPrimary() async { await primary.stop() }

  /// Starts the primary again where it was.
  func startPrimary(folder: String? = nil) async throws {
    var same = options
    same.ship?.port = primary.shipAddress?.port ?? 0
    same.listen?.port = primary.listenAddress?.port ?? 0
    primary = try await Self.start(folder ?? self.folder, same, limits)
  }

  func stop() async {
    for replica in replicas.reversed() { await replica.stop() }
    await primary.stop()
  }

  // MARK: Clients

  func writer() throws -> LineConnection {
    try LineConnection(port: try #require(primary.listenAddress?.port))
  }

  func reader(_ number: Int = 0) throws -> LineConnection {
    try LineConnection(port: try #require(replicas[number].listenAddress?.port))
  }

  /// Makes a database with a table at the primary.
  func create(_ name: String, rows: Int = 0) throws {
    let client = try writer()
    try client.command(".db create \(name)")
    try client.run("CREATE TABLE t(v)", in: name)
    for number in 0..<rows { try client.run("INSERT INTO t VALUES (\(number))", in: name) }
  }

  /// Waits until a replica has as many rows of a database.
  func wait(for rows: Int, in name: String, at number: Int = 0) throws {
    let client = try reader(number)
    var last = "nothing"
    try eventually("\(rows) rows in \(name) at replica \(number), got \(last)") {
      let answer = try client.query("SELECT count(*) FROM t", [], [("db", .string(name))])
      last = answer.error ?? "\(answer.value ?? .null)"
      return answer.integer == Int64(rows)
    }
  }

  /// Compares every database of a replica with the primary's, once both have stopped.
  func requireEqual(_ names: [String], at number: Int = 0) throws {
    for name in names {
      try samePages("\(folder)/\(name).db", "\(directory.file("replica\(number)"))/\(name).db")
    }
  }
}

extension LineConnection {
  /// A request to one database, which must succeed.
  @discardableResult
  func run(_ sql: String, in database: String, token: String? = nil) throws -> Answer {
    var more: [(String, JSONValue)] = [("db", .string(database))]
    if let token { more.append(("token", .string(token))) }
    return try run(sql, [], more)
  }

  /// Does what a client does that is told to come again.
  func command(_ line: String) throws {
    var answer = try request(line)
    try eventually("\(line) is not turned away", deadline: .seconds(60)) {
      guard answer.error == "OVERLOADED", answer.retry else { return true }
      answer = try request(line)
      return false
    }
    if let code = answer.error { throw TestFailure("\(line): \(code): \(answer.message)") }
  }

  var databases: [String] {
    get throws {
      try request(".databases").json["databases"]?.elements.compactMap(\.text) ?? []
    }
  }
}
