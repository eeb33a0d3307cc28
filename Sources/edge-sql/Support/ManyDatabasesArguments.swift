// What the commands `primary` and `replica` have in common when a node serves many databases.

import ArgumentParser
import NIOCore
import Serving
import Store

/// The options of a node with a folder of databases.
struct ManyDatabasesArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("A folder of many databases, in place of --db.", valueName: "folder"))
  var data: String?
  @Option(
    help: ArgumentHelp(
      "How long one of many databases stays open without use.", valueName: "duration"))
  var databaseIdle: String?
  @Option(
    help: ArgumentHelp("The most of many databases that are open at once.", valueName: "count"))
  var databasesOpen: String?

  var flags: [GivenFlag?] {
    [
      Settings.data.flag(data), Settings.databaseIdle.flag(databaseIdle),
      databasesOpen.map { GivenFlag(name: Settings.databasesOpen.name, text: $0) },
    ]
  }

  func requireNoFile(_ configuration: Configuration) throws {
    guard try configuration.optional(Settings.database) == nil else {
      throw configuration.failure(Settings.data, "--db and --data cannot be given together")
    }
  }

  func limits(_ configuration: Configuration) throws -> OnDemandDatabases.Limits {
    var limits = OnDemandDatabases.Limits()
    limits.idleMilliseconds = try configuration[Settings.databaseIdle]
    limits.openMax = try configuration[Settings.databasesOpen]
    return limits
  }

  /// Prepares the process for many databases: each that is open has a cache, and a thread.
  func share(_ limits: inout ServingLimits) {
    limits.loopCacheKibibytes = 1000
    HeapMemory.shareHeaps(max(2, System.coreCount))
  }

  /// The sentence and the exit code for a folder that cannot be had.
  static func failure(_ error: any Error) -> (any Error)? {
    guard let failure = error as? DataFolder.Failure else { return nil }
    let status: ExitStatus =
      switch failure {
      case .notAFolder: .cannotCreate
      case .inUse: .temporary
      }
    return CommandFailure(status, failure.description)
  }
}
