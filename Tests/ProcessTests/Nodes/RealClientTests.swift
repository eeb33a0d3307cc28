// Turso's client libraries, as they are, against both roles. Where a package is not installed, its
// test says that it was skipped. EDGE_SQL_PYTHON names the interpreter that has them.

import EdgeTesting
import Glibc
import Testing

/// A client library and the script that drives it.
struct RealClient: CustomTestStringConvertible, Sendable {
  var module: String
  var script: String
  var arguments: [String] = []
  var testDescription: String { ([module] + arguments).joined(separator: " ") }

  static let all = [
    RealClient(module: "libsql", script: "check_libsql_remote.py"),
    RealClient(module: "libsql_client", script: "check_libsql_client.py"),
    RealClient(module: "libsql_client", script: "check_libsql_client.py", arguments: ["ws"]),
    RealClient(module: "turso_serverless", script: "check_turso_serverless.py"),
    RealClient(module: "aiolibsql", script: "check_aiolibsql.py"),
    RealClient(module: "django_libsql", script: "check_django_libsql.py"),
    RealClient(module: "sqlalchemy_libsql", script: "check_sqlalchemy_libsql.py"),
  ]
  static let installed = all.filter(\.isInstalled)

  private static let python = getenv("EDGE_SQL_PYTHON").map { String(cString: $0) } ?? "python3"
  private static let environment = Program(path: "/usr/bin/env")

  private var isInstalled: Bool {
    let result = try? Self.environment.run([Self.python, "-c", "import \(module)"])
    return result?.status == .exited(0)
  }

  /// Runs the script, which ends with `ok`.
  func run(port: Int) throws {
    let result = try Self.run(script, ["http://127.0.0.1:\(port)"] + arguments)
    #expect(result.status == .exited(0), "\(testDescription): \(result.error.suffix(2000))")
    #expect(result.output.hasSuffix("ok\n"))
  }

  /// Runs a script of Tests/Clients.
  static func run(_ script: String, _ arguments: [String]) throws -> Program.Result {
    try environment.run([python, "-B", "\(folder)/\(script)"] + arguments, deadline: .seconds(180))
  }

  private static let folder =
    #filePath.split(separator: "/").dropLast(3)
    .reduce("") { "\($0)/\($1)" } + "/Clients"
}

extension NodeTests {
  @Suite(
    .enabled(
      if: !RealClient.installed.isEmpty,
      "no client library of Turso is installed for python3 or EDGE_SQL_PYTHON"))
  struct RealClientTests {
    @Test(arguments: RealClient.installed)
    func clientWorksOnBothRoles(_ client: RealClient) throws {
      let arguments = ["--http", "127.0.0.1:0"]
      let cluster = try Cluster(primaryArguments: arguments, replicaArguments: arguments)
      for node in cluster.nodes { try client.run(port: node.httpPort) }
    }
  }
}
