// `edge-sql replica`: follows a primary, or another replica, and serves what it has.

import ArgumentParser
import Replica
import Serving
import Store

struct ReplicaCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replica", abstract: "Follow a primary and serve reads from a local file.",
    discussion: """
      The file is an ordinary SQLite database that any program on this machine may read. Writes \
      sent to this node are forwarded to the primary.
      With --data it takes all databases of a primary with --data, or those that --databases names, \
      over one connection: they appear here as they are made there, and go as they are dropped.
      """)

  @Option(
    help: ArgumentHelp(
      "The node to follow; several with commas: the first that can be reached.",
      valueName: "address"))
  var upstream: String?
  @Flag(help: "Throw away what is in the replica's file or folder and copy everything anew.")
  var reset = false
  @Option(
    help: ArgumentHelp(
      "Which of many databases to take: names and globs, with commas.", valueName: "patterns"))
  var databases: String?
  @OptionGroup(title: "Many databases") var many: ManyDatabasesArguments
  @OptionGroup var node: NodeArguments

  func run() async throws {
    try await reportingFailures {
      let configuration = try node.load(
        more: many.flags + [Settings.upstream.flag(upstream), Settings.databases.flag(databases)])
      if let folder = try configuration.optional(Settings.data) {
        return try await follow(folder, configuration)
      }
      let (options, security) = try await NodeRun.options(
        configuration, listen: "127.0.0.1:7390", http: "127.0.0.1:8090", ship: "off",
        role: "replica")
      let path = try configuration.value(Settings.database, builtIn: "replica.db")
      let upstreams = try configuration[Settings.upstream]
      var replica = ReplicaConfiguration(
        databasePath: path, upstreams: upstreams.map { NodeAddress(host: $0.host, port: $0.port) },
        options: options)
      replica.resets = reset
      do {
        let service = try await ReplicaService(configuration: replica)
        let watch = Task { await CopyWatch(service: service, logger: options.logger).run() }
        defer { watch.cancel() }
        try await NodeRun.serve(service, security, logger: options.logger) {
          guard (try? await service.waitUntilReady()) != nil else { return nil }
          let listen = service.listenAddress.map { "clients on \(describe($0))" } ?? "no clients"
          let http = service.httpAddress.map { ", HTTP on \(describe($0))" } ?? ""
          let ship = service.shipAddress.map { ", replicas on \(describe($0))" } ?? ""
          let followed = upstreams.map(\.description).joined(separator: ",")
          return "replica of \(followed) in \(path), \(listen)\(http)\(ship)"
        }
      } catch {
        throw failure(error, path: path)
      }
    }
  }

  /// Follows many databases.
  private func follow(_ folder: String, _ configuration: Configuration) async throws {
    try many.requireNoFile(configuration)
    var (options, security) = try await NodeRun.options(
      configuration, listen: "127.0.0.1:7390", http: "127.0.0.1:8090", ship: "off",
      role: "replica")
    many.share(&options.limits)
    let upstreams = try configuration[Settings.upstream]
    var replica = ReplicaDataConfiguration(
      folderPath: folder,
      upstreams: upstreams.map { NodeAddress(host: $0.host, port: $0.port) }, options: options)
    replica.filter = try configuration[Settings.databases]
    replica.databases = try many.limits(configuration)
    replica.resets = reset
    let service: ReplicaDataService
    do {
      service = try await ReplicaDataService(configuration: replica)
    } catch {
      throw ManyDatabasesArguments.failure(error) ?? NodeRun.failure(error, path: folder)
    }
    let listen = service.listenAddress.map { "clients on \(describe($0))" } ?? "no clients"
    let http = service.httpAddress.map { ", HTTP on \(describe($0))" } ?? ""
    let ship = service.shipAddress.map { ", replicas on \(describe($0))" } ?? ""
    let followed = upstreams.map(\.description).joined(separator: ",")
    try await NodeRun.serve(service, security, logger: options.logger) {
      "replica of \(followed) in \(folder), \(listen)\(http)\(ship)"
    }
  }

  private func failure(_ error: any Error, path: String) -> any Error {
    switch error {
    case let failure as ReplicaDatabase.Failure:
      CommandFailure(.corruptData, failure.description)
    case let failure as ReplicaCopy.Failure: CommandFailure(.temporary, failure.description)
    case WALInjector.Failure.inUse:
      CommandFailure(
        .temporary, "another process writes to \(path): is a replica running on it already?")
    default: NodeRun.failure(error, path: path)
    }
  }
}
