// Nodes in this process, on ports that the system chooses.

import Glibc
import Logging
import Primary
import Replica
import Serving
import Store
import WALShip

enum Nodes {
  static func options() -> NodeOptions {
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.logger = Logger(label: "benchmarks") { _ in SwiftLogNoOpLogHandler() }
    return options
  }

  static func primary(_ path: String, ships: Bool = false) async throws -> PrimaryService {
    var options = options()
    if ships { options.ship = NodeAddress(host: "127.0.0.1", port: 0) }
    return try await PrimaryService(
      configuration: PrimaryConfiguration(databasePath: path, options: options))
  }

  /// A replica that follows; it may not have caught up yet.
  static func replica(of primary: PrimaryService, path: String) async throws -> ReplicaService {
    let upstream = NodeAddress(host: "127.0.0.1", port: primary.shipAddress?.port ?? 0)
    let configuration = ReplicaConfiguration(
      databasePath: path, upstreams: [upstream], options: options())
    return try await ReplicaService(configuration: configuration)
  }

  /// Returns when the replica is where the primary is.
  static func waitUntilEqual(_ primary: PrimaryService, _ replica: ReplicaService) throws {
    let start = monotonicNanoseconds()
    while replica.position != primary.tracker.position {
      guard monotonicNanoseconds() - start < 60_000_000_000 else {
        throw Failure("the replica did not catch up within 60 s")
      }
      usleep(100)
    }
  }
}
