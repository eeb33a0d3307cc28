// What the commands `primary` and `replica` have in common: options, safety checks, and running
// until a signal comes.

import ArgumentParser
import Logging
import ServiceLifecycle
import Serving
import Store

/// The options of a node.
struct NodeArguments: ParsableArguments {
  @Option(help: ArgumentHelp("The database file.", valueName: "file")) var db: String?
  @Option(help: ArgumentHelp("Where clients connect: HOST:PORT or off.", valueName: "address"))
  var listen: String?
  @Option(
    help: ArgumentHelp(
      "Where clients connect that speak HTTP, as Turso's do: HOST:PORT or off.",
      valueName: "address"))
  var http: String?
  @Option(
    help: ArgumentHelp(
      "How long a stream over HTTP waits for its next request.", valueName: "duration"))
  var streamIdle: String?
  @Option(help: ArgumentHelp("Where replicas connect: HOST:PORT or off.", valueName: "address"))
  var ship: String?
  @Option(help: "What this node calls itself.") var name: String?
  @Option(
    help: ArgumentHelp("A file with the secret that all nodes share.", valueName: "file"))
  var shipSecretFile: String?
  @OptionGroup(title: "Credentials and TLS") var security: SecurityArguments
  @Flag(help: "Listen on addresses that others can reach without credentials or without TLS.")
  var insecure = false
  @Option(help: ArgumentHelp("Checkpoint when the WAL has so many frames.", valueName: "frames"))
  var checkpointFrames: String?
  @Option(
    help: ArgumentHelp(
      "How fast all pages are checked in the background: bytes a second, 0B for not at all.",
      valueName: "size"))
  var scrubRate: String?
  @Option(help: ArgumentHelp("How long after a check the next one begins.", valueName: "duration"))
  var scrubInterval: String?
  @Option(
    help: ArgumentHelp(
      "The most memory that SQLite may take: 0B for no limit, auto for half of what there is.",
      valueName: "size"))
  var sqliteHeapLimit: String?
  @Option(help: "trace, debug, info, notice, warning, error or critical.") var logLevel: String?
  @Option(help: "text, json or auto.") var logFormat: String?
  @OptionGroup var common: ConfigurationOptions

  func load(more: [GivenFlag?] = []) throws(CommandFailure) -> Configuration {
    try common.load(
      flags: more + security.flags + [
        Settings.database.flag(db), Settings.listen.flag(listen), Settings.http.flag(http),
        Settings.streamIdle.flag(streamIdle), Settings.ship.flag(ship),
        Settings.name.flag(name), Settings.shipSecretFile.flag(shipSecretFile),
        Settings.insecure.flag(insecure ? true : nil),
        Settings.checkpointFrames.flag(checkpointFrames),
        Settings.scrubRate.flag(scrubRate), Settings.scrubInterval.flag(scrubInterval),
        Settings.sqliteHeapLimit.flag(sqliteHeapLimit), Settings.logLevel.flag(logLevel),
        Settings.logFormat.flag(logFormat),
      ])
  }
}

/// The parts of a node's configuration that do not depend on its role.
enum NodeRun {
  static func options(
    _ configuration: Configuration, listen: String, http: String, ship: String, role: String
  ) async throws -> (NodeOptions, NodeSecurity) {
    MetricsRegistry.bootstrap()
    HeapMemory.limitSQLite(
      try configuration[Settings.sqliteHeapLimit] ?? HeapMemory.available / 2)
    var options = NodeOptions()
    options.listen = try address(configuration, Settings.listen, builtIn: listen)
    options.http = try address(configuration, Settings.http, builtIn: http)
    options.limits.streamIdleMilliseconds = try configuration[Settings.streamIdle]
    options.ship = try address(configuration, Settings.ship, builtIn: ship)
    options.name = try configuration.optional(Settings.name) ?? role
    options.checkpointFrames = UInt32(clamping: try configuration[Settings.checkpointFrames])
    options.scrub.bytesPerSecond = try configuration[Settings.scrubRate]
    options.scrub.intervalSeconds = max(1, try configuration[Settings.scrubInterval] / 1000)
    if let path = try configuration.optional(Settings.shipSecretFile) {
      do {
        options.secret = try ShipSecret(file: path)
      } catch {
        throw CommandFailure(.configuration, error.description)
      }
    }
    options.logger = try logger(configuration)
    let security = try await NodeSecurity(configuration, logger: options.logger)
    options.verifier = security.verifier
    options.transport = security.transport
    options.shipTransport = security.shipTransport
    try OpenAddresses(configuration, options, security).check()
    return (options, security)
  }

  private static func address(
    _ configuration: Configuration, _ setting: Setting<ListenAddress>, builtIn: String
  ) throws -> NodeAddress? {
    switch try configuration.value(setting, builtIn: builtIn) {
    case .off: nil
    case .address(let host, let port): NodeAddress(host: host, port: port)
    }
  }

  private static func logger(_ configuration: Configuration) throws -> Logger {
    let level = Logger.Level(rawValue: try configuration[Settings.logLevel]) ?? .info
    let format = try configuration[Settings.logFormat]
    return Logger(label: "edge-sql") { _ in NodeLogHandler(level: level, format: format) }
  }

  /// Runs a service until SIGTERM or SIGINT; a second one ends the program at once.
  ///
  /// - Parameter ready: waits until clients are served, and says so in a line; nil when that never
  ///   comes. By then a signal ends the program in order.
  static func serve(
    _ service: some Service, _ security: NodeSecurity, logger: Logger,
    ready: @escaping @Sendable () async -> String?
  ) async throws {
    // They end in the opposite order.
    var configuration = ServiceGroupConfiguration(
      services: [ReadyLine(ready: ready), SecurityReload(security: security), service],
      gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
    configuration.maximumGracefulShutdownDuration = .seconds(15)
    try await ServiceGroup(configuration: configuration).run()
  }

  /// The sentence and the exit code for what can go wrong at the start.
  static func failure(_ error: any Error, path: String) -> any Error {
    switch error {
    case let error as any FailureConvertible: return error
    case let error as SQLiteError:
      let status: ExitStatus =
        switch error.primaryCode {
        case SQLiteError.corrupt, SQLiteError.notADatabase: .corruptData
        case SQLiteError.busy: .temporary
        case SQLiteError.cannotOpen: .cannotCreate
        default: .failed
        }
      return CommandFailure(status, "\(path): \(error.message)")
    case let error as DiskError:
      return CommandFailure(.inputOutput, error.description)
    case let error as ListenFailure:
      return CommandFailure(.unavailable, error.description)
    case is CancellationError: return CommandFailure(.failed, "cancelled")
    default:
      return CommandFailure(.failed, "\(error)")
    }
  }
}

/// Tells on standard output that a node serves.
private struct ReadyLine: Service {
  let ready: @Sendable () async -> String?

  func run() async throws {
    if let line = await ready() { Console.output.write("ready: \(line)\n") }
    try? await gracefulShutdown()
  }
}
