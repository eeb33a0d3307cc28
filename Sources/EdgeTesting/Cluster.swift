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

  /// - Parameter prepare: makes the database file before the primary adopts it.
  public init(
    replicas count: Int = 1, primaryArguments: [String] = [], replicaArguments: [String] = [],
    prepare: (String) throws -> Void = { _ in }
  ) throws {
    directory = try TestDirectory()
    try prepare(directory.file("primary.db"))
    primary = try NodeProcess(
      .primary, in: directory, database: "primary.db", arguments: primaryArguments)
    for _ in 0..<count { try addReplica(arguments: replicaArguments) }
  }

  public func addReplica(arguments: [String] = []) throws {
    let link = try FaultProxy(to: primary.shipPort)
    links.append(link)
    replicas.append(
      try NodeProcess(
        .replica, in: directory, database: "replica\(replicas.count).db",
        arguments: ["--upstream", "127.0.0.1:\(link.port)"] + arguments, ships: false))
  }

  /// Waits until every replica is where the primary is.
  public func settle(_ deadline: Deadline = .seconds(120)) throws {
    for replica in replicas {
      var places = (Int64(0), Int64(0))
      try eventually("a replica at \(places.0), the primary at \(places.1)", deadline: deadline) {
        places = ((try? replica.txid()) ?? -1, try primary.txid())
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
