// A primary, and a replica if a test wants one, that listen for HTTP in this process.

import EdgeTesting
import Serving
import Store
import Testing

@testable import Primary
@testable import Replica

/// Nodes, of which one is tested.
final class HTTPNodes: Sendable {
  let directory: TestDirectory
  let primary: PrimaryService
  let replica: ReplicaService?
  /// Of the node that is tested.
  let port: Int
  let linePort: Int

  private init(
    _ directory: TestDirectory, _ primary: PrimaryService, _ replica: ReplicaService?
  ) throws {
    self.directory = directory
    self.primary = primary
    self.replica = replica
    let http = replica.map(\.httpAddress) ?? primary.httpAddress
    let line = replica.map(\.listenAddress) ?? primary.listenAddress
    port = try #require(http?.port)
    linePort = try #require(line?.port)
  }

  static func with(
    _ role: NodeRole = .primary, limits: ServingLimits = ServingLimits(),
    verifier: (any CredentialVerifier)? = nil, _ body: (HTTPNodes) throws -> Void
  ) async throws {
    let directory = try TestDirectory()
    var options = NodeOptions()
    options.limits = limits
    options.verifier = verifier
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.http = NodeAddress(host: "127.0.0.1", port: 0)
    var own = options
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    let primary = try await PrimaryService(
      configuration: PrimaryConfiguration(
        databasePath: directory.file("primary.db"), options: options))
    var replica: ReplicaService?
    do {
      if role == .replica {
        let port = try #require(primary.shipAddress?.port)
        own.ship = nil
        replica = try await ReplicaService(
          configuration: ReplicaConfiguration(
            databasePath: directory.file("replica.db"),
            upstreams: [NodeAddress(host: "127.0.0.1", port: port)], options: own))
        try await replica?.waitUntilReady()
      }
      try body(try HTTPNodes(directory, primary, replica))
    } catch {
      await replica?.stop()
      await primary.stop()
      throw error
    }
    await replica?.stop()
    await primary.stop()
  }

  func client() throws -> HTTPClient { try HTTPClient(port: port) }

  /// The node that is tested.
  var status: NodeStatus { replica?.status ?? primary.status }

  /// Runs requests of a stream on a connection of their own.
  func pipeline(
    _ requests: [String], baton: String? = nil, headers: [String] = []
  ) throws -> HTTPMessage {
    let name = baton.map { "\"\($0)\"" } ?? "null"
    return try client().request(
      "POST", "/v2/pipeline",
      "{\"baton\":\(name),\"requests\":[\(requests.joined(separator: ","))]}", headers: headers)
  }

  /// Results of requests that the protocol allows.
  func results(_ requests: [String], baton: String? = nil) throws -> [JSONValue] {
    let answer = try pipeline(requests, baton: baton)
    guard answer.status == 200 else { throw TestFailure("\(answer.status): \(answer.text)") }
    return try answer.json["results"]?.elements ?? []
  }
}

/// A request that executes one statement.
func execute(_ sql: String, _ more: String = "") -> String {
  "{\"type\":\"execute\",\"stmt\":{\"sql\":\"\(sql)\"\(more)}}"
}

extension JSONValue {
  /// The error of a result.
  var code: String? { self["error"]?["code"]?.text }
  var result: JSONValue? { self["response"]?["result"] }
  /// The first value of the first row of a result.
  var value: String? { result?["rows"]?[0]?[0]?["value"]?.text }
}
