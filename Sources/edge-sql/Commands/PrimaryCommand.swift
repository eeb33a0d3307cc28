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
      """)

  @OptionGroup var node: NodeArguments

  func run() async throws {
    try await reportingFailures {
      let configuration = try node.load()
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
      Console.output.write("ready: primary of \(path), \(listen)\(http), \(ship)\n")
      try await NodeRun.serve(service, security, logger: options.logger)
    }
  }

  private func failure(_ error: any Error, path: String) -> any Error {
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
