// A primary and a replica that ask their clients for tokens, and each other for a secret.

import EdgeTesting
import Serving
import Testing

/// Both nodes have a table `t`.
struct GuardedPair {
  let directory: TestDirectory
  let tokens: TestTokens
  let primary: NodeProcess
  let replica: NodeProcess
  var nodes: [NodeProcess] { [primary, replica] }

  init(_ arguments: [String] = ["--auth-require-exp"], speaksHTTP: Bool = false) async throws {
    directory = try TestDirectory()
    tokens = try await TestTokens()
    let secret = try directory.write("secret", "a secret of the nodes alone", mode: 0o600)
    let all =
      ["--auth-jwt-key-file", try tokens.keyFile(in: directory), "--ship-secret-file", secret]
      + arguments
    primary = try NodeProcess(
      .primary, in: directory, database: "p.db", arguments: all, speaksHTTP: speaksHTTP)
    replica = try NodeProcess(
      .replica, in: directory, database: "r.db",
      arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"] + all, speaksHTTP: speaksHTTP)
    let admin = try #require(try tokens.token(.admin))
    for node in nodes { node.token = admin }
    try replica.connect().run("CREATE TABLE t(v)")
  }

  /// Asks each route of both nodes with the credential of everybody, and expects what the route says.
  func ask(_ routes: [AccessRoute]) throws {
    for node in nodes { try Self.ask(routes, node, tokens) }
  }

  static func ask(_ routes: [AccessRoute], _ node: NodeProcess, _ tokens: TestTokens) throws {
    var asked = 0
    for route in routes {
      for bearer in Bearer.allCases {
        let outcome = try route.ask(node, tokens.token(bearer))
        #expect(outcome == route.expected(bearer), "\(node.role), \(route), \(bearer)")
        asked += 1
      }
    }
    note("\(asked) requests of all bearers on a \(node.role.rawValue)")
  }
}
