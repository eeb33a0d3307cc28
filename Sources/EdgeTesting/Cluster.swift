// A primary and its replicas, each link through a proxy of its own.

import Serving
import Store

/// What most tests begin with.
public final class Cluster {
  public let directory: TestDirectory
  public let primary: NodeProcess
  public private(set) var links: [FaultProxy] = []
  public private(set) var replicas: [NodeProcess] = []
  public var replica: NodeProcess { replicas[0] }
  public var link: FaultProxy { links[0] }

  /// - Parameters:
  ///   - database: the primary's file.
  ///   - prepare: makes it before the primary adopts it.
  public init(
    replicas count: Int = 1, primaryArguments: [String] = [], replicaArguments: [String] = [],
    in directory: TestDirectory? = nil, database: String = "primary.db",
    prepare: (String) throws -> Void = { _ in }
  ) throws {
    let directory = try directory ?? TestDirectory()
    self.directory = directory
    try prepare(database.hasPrefix("/") ? database : directory.file(database))
    primary = try NodeProcess(
      .primary, in: directory, database: database, arguments: primaryArguments)
    for _ in 0..<count { try addReplica(arguments: replicaArguments) }
  }

  /// - Parameters:
  ///   - following: the node above it; nil for the primary.
  ///   - ships: whether others can follow it.
  public func addReplica(
    arguments: [String] = [], database: String? = nil, following: NodeProcess? = nil,
    ships: Bool = false
  ) throws {
    let link = try FaultProxy(to: (following ?? primary).shipPort)
    links.append(link)
    replicas.append(
      try NodeProcess(
        .replica, in: directory, database: database ?? "replica\(replicas.count).db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"] + arguments, ships: ships))
  }

  public var nodes: [NodeProcess] { [primary] + replicas }
  /// Where clients may go.
  public var ports: [Int] { nodes.map(\.listenPort) }

  /// Waits until every replica is where the primary is, commits of other programs included.
  public func settle(_ deadline: Deadline = .seconds(120)) throws {
    for replica in replicas {
      var places = (Int64(0), Int64(0))
      try eventually("a replica at \(places.0), the primary at \(places.1)", deadline: deadline) {
        places = ((try? replica.txid()) ?? -1, try primary.capturedTXID())
        return places.0 == places.1
      }
    }
  }

  /// Waits, then compares every page of every replica, and lets SQLite check them.
  public func requireEqual() throws {
    try settle()
    for replica in replicas { try samePages(primary.database, replica.database) }
  }
}

/// Compares two database files page by page, apart from the stamp of a replica, and lets SQLite
/// check the second.
///
/// Both may be in use by other processes. This process must have no other SQLite connection to
/// them.
public func samePages(_ first: String, _ second: String) throws {
  let one = try PageComparison(path: first)
  let other = try PageComparison(path: second)
  guard one.pageSize == other.pageSize, one.pageCount == other.pageCount else {
    throw TestFailure(
      "\(one.pageCount) pages of \(one.pageSize), \(other.pageCount) of \(other.pageSize)"
    )
  }
  let differing = try one.differences(from: other, limit: 5)
  guard differing.isEmpty else {
    throw TestFailure("\(second) differs from \(first) in pages \(differing.map { "\($0.pgno)" })")
  }
  let report = try other.integrityCheck()
  guard report == ["ok"] else { throw TestFailure("integrity_check: \(report)") }
}
