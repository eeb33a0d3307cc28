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
    RealClient(module: "turso", script: "check_turso_sync.py"),
    RealClient(module: "aiolibsql", script: "check_aiolibsql.py"),
    RealClient(module: "django_libsql", script: "check_django_libsql.py"),
    RealClient(module: "sqlalchemy_libsql", script: "check_sqlalchemy_libsql.py"),
  ]
  static let installed = all.filter(\.isInstalled)

  /// Those that keep a copy of the database.
  static let copies = ["libsql", "libsql_experimental", "aiolibsql", "turso"]
    .map { RealClient(module: $0, script: "sync_copy.py") }.filter(\.isInstalled)

  private static let python = getenv("EDGE_SQL_PYTHON").map { String(cString: $0) } ?? "python3"
  private static let environment = Program(path: "/usr/bin/env")

  var isInstalled: Bool {
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
  static func run(
    _ script: String, _ arguments: [String], lines: [String] = []
  ) throws -> Program.Result {
    try environment.run(
      [python, "-B", "\(folder)/\(script)"] + arguments,
      input: lines.map { $0 + "\n" }.joined(), deadline: .seconds(180))
  }

  /// Works with a copy in a process of its own, as lines say.
  func runCopy(_ lines: [String], _ path: String, port: Int) throws -> Program.Result {
    try Self.run(script, ["http://127.0.0.1:\(port)", module, path], lines: lines)
  }

  /// Brings a copy up to date, with a process of its own.
  ///
  /// - Parameter lines: SQL to write through the copy before each pull; empty for none.
  /// - Returns: what the copy holds after each.
  func sync(_ lines: [String], _ path: String, port: Int) throws -> [String] {
    let result = try runCopy(lines, path, port: port)
    let digests = result.output.split(separator: "\n").map(String.init)
    guard result.status == .exited(0), digests.count == lines.count else {
      throw TestFailure("\(module): \(result.output) \(result.error.suffix(2000))")
    }
    return digests
  }

  /// What a file holds.
  func digest(_ path: String) throws -> String {
    let result = try Self.environment.run(
      [Self.python, "-B", "\(Self.folder)/\(script)", "--digest", "-", path],
      deadline: .seconds(60))
    guard result.status == .exited(0) else { throw TestFailure(result.error) }
    return result.output.filter { $0 != "\n" }
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

  @Suite(
    .enabled(
      if: !RealClient.copies.isEmpty,
      "no client library of Turso that keeps copies is installed for python3 or EDGE_SQL_PYTHON"))
  struct RealCopyTests {
    private static let fill =
      "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1200) "
      + "INSERT INTO t SELECT NULL, randomblob(3500) FROM n"

    private func run(_ node: NodeProcess, _ sql: String) throws {
      let answer = try node.connect().request(sql)
      if let error = answer.error { throw TestFailure("\(sql): \(error)") }
    }

    @Test(arguments: RealClient.copies)
    func copiesAreTheDatabaseAfterEachPull(_ client: RealClient) throws {
      let arguments = ["--http", "127.0.0.1:0"]
      let cluster = try Cluster(primaryArguments: arguments, replicaArguments: arguments)
      let primary = cluster.primary
      try run(primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
      try run(primary, Self.fill)
      for node in cluster.nodes {
        try cluster.settle()
        let path = cluster.directory.file("\(node.role.rawValue)-copy.db")
        let write = "INSERT INTO t(data) VALUES ('by the copy')"
        let rounds: [(lines: [String], before: () throws -> Void)] = [
          ([""], {}), ([write, ""], {}),
          (["", ""], { try run(primary, "UPDATE t SET data = 'here' WHERE id % 40 = 0") }),
          (
            [""],
            {
              try run(primary, "DELETE FROM t WHERE id % 3 > 0")
              try primary.vacuum()
              node.kill()
              try node.start()
            }
          ),
          (
            [write],
            {
              try node.terminate()
              try node.start()
              for _ in 0..<2 { try run(primary, Self.fill) }
            }
          ),
        ]
        for (number, round) in rounds.enumerated() {
          try round.before()
          try cluster.settle()
          let found = try client.sync(round.lines, path, port: node.httpPort)
          try cluster.settle()
          #expect(try found.last == client.digest(node.database), "\(node.role) round \(number)")
        }
      }
    }
  }
}
