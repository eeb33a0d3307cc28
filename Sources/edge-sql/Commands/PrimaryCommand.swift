// `edge-sql primary`: serves a database for writing, and ships it.

import ArgumentParser
import Primary
import Serving
import Store

struct PrimaryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "primary", abstract: "Serve a database and ship its commits to replicas.",
    discussion: """
      The file is adopted as it is, or made. Other programs may go on writing to it with their own \
      SQLite: their commits are shipped as well.
      With --data it serves any number of databases, the files NAME.db of a folder, each opened \
      when somebody asks for it; `edge-sql replica --data` follows all of them, or some.
      """)

  @OptionGroup(title: "Many databases") var many: ManyDatabasesArguments
  @OptionGroup var node: NodeArguments

  func run() async throws {
    try await reportingFailures {
      let configuration = try node.load(more: many.flags)
      if let folder = try configuration.optional(Settings.data) {
        return try await serve(folder, configuration)
      }
      let (options, security) = try await NodeRun.options(
        configuration, listen: "127.0.0.1:7380", http: "127.0.0.1:8080", ship: "127.0.0.1:7381",
        role: "primary")
      let path = try configuration.value(Settings.database, builtIn: "edge.db")
      let service: PrimaryService
      do {
        service = try await PrimaryService(
          configuration: PrimaryConfiguration(databasePath: path, options: options))
      } catch {
        throw failure(error, path: path)
      }
      for note in service.notes { options.logger.notice("\(note)") }
      let listen = service.listenAddress.map { "clients on \(describe($0))" } ?? "no clients"
      let http = service.httpAddress.map { ", HTTP on \(describe($0))" } ?? ""
      let ship = service.shipAddress.map { "replicas on \(describe($0))" } ?? "no replicas"
      try await NodeRun.serve(service, security, logger: options.logger) {
        "primary of \(path), \(listen)\(http), \(ship)"
      }
    }
  }

  /// Serves many databases.
  private func serve(_ folder: String, _ configuration: Configuration) async throws {
    try many.requireNoFile(configuration)
    var (options, security) = try await NodeRun.options(
      configuration, listen: "127.0.0.1:7380", http: "127.0.0.1:8080", ship: "127.0.0.1:7381",
      role: "primary")
    many.share(&options.limits)
    var primary = PrimaryDataConfiguration(folderPath: folder, options: options)
    primary.databases = try many.limits(configuration)
    let service: PrimaryDataService
    do {
      service = try await PrimaryDataService(configuration: primary)
    } catch {
      throw failure(error, path: folder)
    }
    let listen = service.listenAddress.map { "clients on \(describe($0))" } ?? "no clients"
    let http = service.httpAddress.map { ", HTTP on \(describe($0))" } ?? ""
    let ship = service.shipAddress.map { "replicas on \(describe($0))" } ?? "no replicas"
    let count = grouped(service.databases.counts.databases)
    try await NodeRun.serve(service, security, logger: options.logger) {
      "primary of \(count) databases in \(folder), \(listen)\(http), \(ship)"
    }
  }

  private func failure(_ error: any Error, path: String) -> any Error {
    if let failure = ManyDatabasesArguments.failure(error) { return failure }
    guard let failure = error as? PrimaryDatabase.Failure else {
      return NodeRun.failure(error, path: path)
    }
    return CommandFailure(Self.status(of: failure), failure.description)
  }

  static func status(of failure: PrimaryDatabase.Failure) -> ExitStatus {
    switch failure {
    case .notADatabase, .replicaFile, .newerPageMap, .missing, .damagedPages: .corruptData
    case .locked, .cannotSwitchToWAL: .temporary
    case .superseded: .configuration
    }
  }
}
