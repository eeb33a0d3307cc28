// Databases that are made, copied and dropped by clients of a replica: the primary does it, and the
// answer comes when the replica has heard of it.

import EdgeTesting
import NIOCore
import Replica
import Serving
import Store
import TestTraits
import Testing
import WALShip

@Suite(.services) struct EdgeChangeTests {
  private static let words = Words([
    "writer": ["a": .write, "b": .write], "owner": ["a": .admin, "b": .admin],
  ])

  /// Through two links, and each result is there for the next request of the same client.
  @Test func changesAtAReplicaAreMadeAtThePrimary() async throws {
    try await EdgeNodes.with(idleMilliseconds: 200) { (nodes) async throws in
      try await nodes.addReplica(above: 0)
      try eventually("the links are there") { nodes.replicas.allSatisfy(\.isLinked) }
      let leaf = try nodes.reader(1)
      for round in 1...5 {
        try leaf.command(".db create a")
        try leaf.run("CREATE TABLE t(v)", in: "a")
        try leaf.run("INSERT INTO t VALUES (\(round))", in: "a")
        #expect(try leaf.run("SELECT v FROM t", in: "a").integer == Int64(round))
        try leaf.command(".db fork a b")
        #expect(try leaf.run("SELECT v FROM t", in: "b").integer == Int64(round))
        #expect(try leaf.request(".db create b").error == "DATABASE_EXISTS")
        #expect(try leaf.databases == ["a", "b"])
        #expect(try nodes.writer().databases == ["a", "b"])
        for name in ["a", "b"] {
          try leaf.command(".db drop \(name)")
          #expect(
            try leaf.query("SELECT 1", [], [("db", .string(name))]).error == "DATABASE_NOT_FOUND")
        }
        #expect(try leaf.databases.isEmpty && nodes.writer().databases.isEmpty)
        #expect(try leaf.request(".db drop a").error == "DATABASE_NOT_FOUND")
        #expect(try leaf.request(".db fork a b").error == "DATABASE_NOT_FOUND")
      }
      let http = try HTTPClient(port: try #require(nodes.replicas[1].httpAddress?.port))
      #expect(try http.request("POST", "/v1/databases/c").status == 200)
      #expect(try http.request("POST", "/v1/databases/c").status == 409)
      #expect(try http.request("POST", "/v1/databases/c/fork/d").status == 200)
      #expect(try http.request("DELETE", "/v1/databases/c").status == 200)
      #expect(try leaf.databases == ["d"])
    }
  }

  @Test func whatAReplicaDoesNotTakeIsMadeAllTheSame() async throws {
    let filter = try #require(DatabaseFilter("eu-*"))
    try await EdgeNodes.with(filter: filter) { (nodes) async throws in
      try eventually("the link is there") { nodes.replica.isLinked }
      let reader = try nodes.reader()
      for name in ["us-1", "eu-1"] { try reader.command(".db create \(name)") }
      #expect(try nodes.writer().databases == ["eu-1", "us-1"])
      #expect(try reader.databases == ["eu-1"])
      try reader.command(".db drop us-1")
      #expect(try nodes.writer().databases == ["eu-1"])
    }
  }

  @Test func changesWithoutAPrimaryFailOrAreUnknown() async throws {
    try await EdgeNodes.with { (nodes) async throws in
      try eventually("the link is there") { nodes.replica.isLinked }
      let reader = try nodes.reader()
      // The wish arrives, and its answer does not.
      nodes.link.pause(.down)
      try reader.send(".db create a\n")
      let writer = try nodes.writer()
      try eventually("it is made") { try writer.databases == ["a"] }
      nodes.link.partition()
      let answer = try reader.receive()
      #expect(answer.error == "OUTCOME_UNKNOWN" && !answer.retry, "\(answer.json)")
      let refused = try reader.request(".db create b")
      #expect(refused.error == "PRIMARY_UNAVAILABLE" && refused.retry, "\(refused.json)")
      #expect(try writer.databases == ["a"])
      nodes.link.heal()
      try eventually("what was made is here") { try reader.databases == ["a"] }
      try reader.command(".db create b")
      #expect(try reader.databases == ["a", "b"])
    }
  }

  @Test func changesNeedAnAdministrator() async throws {
    try await EdgeNodes.with(verifier: Self.words) { (nodes) async throws in
      try eventually("the link is there") { nodes.replica.isLinked }
      let reader = try nodes.reader()
      #expect(try reader.authenticate("writer").error == nil)
      #expect(try reader.request(".db create a").error == "AUTH_DENIED")
      let owner = try nodes.reader()
      #expect(try owner.authenticate("owner").error == nil)
      try owner.command(".db create a")
      #expect(try owner.databases == ["a"])
      // A node that does not ask who its clients are gives them no rights at one that does.
      await nodes.stopReplica()
      try await nodes.startReplica { $0.options.verifier = nil }
      try eventually("the link is there again") { nodes.replica.isLinked }
      let anyone = try nodes.reader()
      for change in ["create b", "drop a", "fork a b"] {
        #expect(try anyone.request(".db \(change)").error == "AUTH_DENIED")
      }
      let writer = try nodes.writer()
      #expect(try writer.authenticate("owner").error == nil)
      #expect(try writer.databases == ["a"])
      // What a node below it has asked its own clients counts, as it does for their writes.
      try await nodes.addReplica(above: 0)
      try eventually("the second link is there") { nodes.replicas[1].isLinked }
      let leaf = try nodes.reader(1)
      #expect(try leaf.authenticate("owner").error == nil)
      try leaf.command(".db create b")
      #expect(try writer.databases == ["a", "b"])
    }
  }
}
