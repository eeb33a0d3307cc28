// The example of README.md, as it stands there: a replica inside of a Swift server.

import EdgeTesting
import Primary
import Replica
import Serving
import Store
import TestTraits
import Testing

@Suite(.services) struct EmbeddingExampleTests {
  @Test func replicaRunsInsideOfAServer() async throws {
    let directory = try TestDirectory()
    var options = NodeOptions()
    options.listen = NodeAddress(host: "127.0.0.1", port: 0)
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    let primary = try await PrimaryService(
      configuration: PrimaryConfiguration(
        databasePath: directory.file("primary.db"), options: options))
    let client = try LineConnection(port: try #require(primary.listenAddress?.port))
    try client.run("CREATE TABLE greeting(text TEXT)")
    try client.run("INSERT INTO greeting VALUES ('hello')")

    let upstream = NodeAddress(host: "127.0.0.1", port: try #require(primary.shipAddress?.port))
    let path = directory.file("app.db")

    // The lines of README.md.
    let configuration = ReplicaConfiguration(databasePath: path, upstreams: [upstream])
    let replica = try await ReplicaService(configuration: configuration)
    try await replica.waitUntilReady()

    #expect(replica.position == primary.tracker.position)
    let reader = try Connection(path: path, mode: .readOnly)
    #expect(try reader.query("SELECT text FROM greeting") == [[.text("hello")]])

    try client.run("INSERT INTO greeting VALUES ('again')")
    try eventually("the second row") {
      try reader.queryInteger("SELECT count(*) FROM greeting") == 2
    }
    await replica.stop()
    await primary.stop()
  }
}
