// Pulls of `/pull-updates` that wait until there is something newer, on both roles, and all the ways
// in which waiting ends.

import EdgeTesting
import Store
import TestTraits
import Testing

@testable import Primary
@testable import Replica
@testable import Serving

@Suite(.services) struct LongPollTests {
  private static let roles = [NodeRole.primary, .replica]
  private static let minute: UInt64 = 60_000

  private func write(_ nodes: HTTPNodes, _ sql: String) throws {
    for result in try nodes.results([execute(sql)]) where result.code != nil {
      throw TestFailure("\(result)")
    }
  }

  /// The present state, as a client has it then.
  private func begin(_ nodes: HTTPNodes) throws -> PullUpdatesReply {
    try write(nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
    return try PullUpdatesAsk()(nodes.client())
  }

  private func eventuallyWaiting(_ count: Int) throws {
    try eventually("\(count) pulls wait") { SyncPoll.waiting == count }
  }

  @Test(arguments: roles) func aPullWaitsForSomethingNewer(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      var copy = try begin(nodes)
      let client = try nodes.client()
      for round in 1...3 {
        try PullUpdatesAsk(since: copy.revision, waitMilliseconds: Self.minute).send(client)
        try eventuallyWaiting(1)
        try write(nodes, "INSERT INTO t VALUES (\(round), 'r\(round)')")
        let next = try PullUpdatesReply(client.answer())
        #expect(!next.pages.isEmpty && next.pages.count < 4 && next.revision != copy.revision)
        #expect(SyncPoll.waiting == 0)
        copy = next
      }
      // Who lacks something, or shows nothing that is known, does not wait.
      let stale = PullUpdatesAsk(since: copy.revision, waitMilliseconds: Self.minute)
      try write(nodes, "INSERT INTO t VALUES (9, 'r9')")
      #expect(try !stale(client).pages.isEmpty)
      for revision in ["", "nonsense", "1.1.1", "ffffffff.1.1"] {
        let all = try PullUpdatesAsk(since: revision, waitMilliseconds: Self.minute)(client)
        #expect(all.pages.count == all.pageCount, "\(revision)")
      }
    }
  }

  /// The client's own bound, and that of the node.
  @Test(arguments: roles) func waitingEndsInTime(_ role: NodeRole) async throws {
    var limits = ServingLimits()
    limits.pullWaitMillisecondsMax = 50
    try await HTTPNodes.with(role, limits: limits) { nodes in
      let copy = try begin(nodes)
      let client = try nodes.client()
      for milliseconds in [1, 50, 1 << 31, UInt64.max] {
        let answer = try PullUpdatesAsk(since: copy.revision, waitMilliseconds: milliseconds)(
          client)
        #expect(answer.pages.isEmpty && answer.revision == copy.revision)
        #expect(answer.pageCount == copy.pageCount)
      }
      #expect(SyncPoll.waiting == 0)
    }
  }

  @Test func aClientThatLeavesWaitsNoLonger() async throws {
    try await HTTPNodes.with { nodes in
      let copy = try begin(nodes)
      let waiters = nodes.primary.tracker.waiterCount
      for _ in 0..<3 {
        let client = try nodes.client()
        try PullUpdatesAsk(since: copy.revision, waitMilliseconds: Self.minute).send(client)
        try eventuallyWaiting(1)
        #expect(nodes.primary.tracker.waiterCount == waiters + 1)
        client.finishSending()
        try eventuallyWaiting(0)
        #expect(nodes.primary.tracker.waiterCount == waiters)
      }
    }
  }

  @Test func thoseBeyondTheBoundAreAnsweredAtOnce() async throws {
    var limits = ServingLimits()
    limits.pullWaitersMax = 2
    try await HTTPNodes.with(limits: limits) { nodes in
      let copy = try begin(nodes)
      let ask = PullUpdatesAsk(since: copy.revision, waitMilliseconds: Self.minute)
      let clients = try (0..<2).map { _ in try nodes.client() }
      for client in clients { try ask.send(client) }
      try eventuallyWaiting(2)
      #expect(try ask(nodes.client()).pages.isEmpty)
      #expect(SyncPoll.waiting == 2)
      try write(nodes, "INSERT INTO t VALUES (1, 1)")
      for client in clients { #expect(try !PullUpdatesReply(client.answer()).pages.isEmpty) }
    }
  }

  /// More than may be answered at a time, and none of them is refused. Whole copies can be had while
  /// they wait.
  @Test(arguments: roles) func oneCommitAnswersAll(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      let copy = try begin(nodes)
      let clients = try (0..<60).map { _ in try nodes.client() }
      for client in clients {
        try PullUpdatesAsk(since: copy.revision, waitMilliseconds: Self.minute).send(client)
      }
      try eventuallyWaiting(clients.count)
      #expect(try PullUpdatesAsk()(nodes.client()).pages.count == copy.pageCount)
      try write(nodes, "INSERT INTO t VALUES (1, 1)")
      for client in clients { #expect(try !PullUpdatesReply(client.answer()).pages.isEmpty) }
      // All turns were given back.
      for _ in 0..<20 {
        #expect(try PullUpdatesAsk()(nodes.client()).pages.count == copy.pageCount)
      }
    }
  }

  /// The answer comes before connections are cut off.
  @Test(arguments: roles) func aNodeThatStopsAnswers(_ role: NodeRole) async throws {
    let held = SharedValue<[Bool]>()
    let answers = SharedValue<BackgroundThread>()
    try await HTTPNodes.with(role) { nodes in
      let copy = try begin(nodes)
      let (port, revision) = (nodes.port, copy.revision)
      answers.set(
        BackgroundThread {
          let client = try HTTPClient(port: port)
          try PullUpdatesAsk(since: revision, waitMilliseconds: Self.minute).send(client)
          held.set([try PullUpdatesReply(client.answer()).pages.isEmpty])
        })
      try eventuallyWaiting(1)
    }
    try answers.value?.join()
    #expect(held.value == [true])
  }

  // MARK: Databases that are opened on demand

  private func port(_ nodes: EdgeNodes, _ role: NodeRole) throws -> Int {
    let address = role == .primary ? nodes.primary.httpAddress : nodes.replica.httpAddress
    return try #require(address?.port)
  }

  private func ask(
    _ client: HTTPClient, _ name: String, since revision: String = "", waits: UInt64 = 0
  ) throws {
    try PullUpdatesAsk(since: revision, waitMilliseconds: waits)
      .send(client, headers: ["x-namespace: \(name)"])
  }

  @Test(arguments: roles) func aPullThatWaitsKeepsNothingOpen(_ role: NodeRole) async throws {
    try await EdgeNodes.with(idleMilliseconds: 100) { (nodes) async throws in
      try nodes.create("a", rows: 1)
      try nodes.wait(for: 1, in: "a")
      let client = try HTTPClient(port: port(nodes, role))
      try ask(client, "a")
      let copy = try PullUpdatesReply(client.answer())
      try ask(client, "a", since: copy.revision, waits: Self.minute)
      // It is closed for being idle, and that ends the pull.
      let answer = try PullUpdatesReply(client.answer())
      #expect(answer.pages.isEmpty && answer.revision == copy.revision)
      #expect(SyncPoll.waiting == 0)
    }
  }

  @Test(arguments: roles) func aDatabaseIsDroppedBesidePulls(_ role: NodeRole) async throws {
    try await EdgeNodes.with { (nodes) async throws in
      try nodes.create("a", rows: 1)
      try nodes.wait(for: 1, in: "a")
      let client = try HTTPClient(port: port(nodes, role))
      try ask(client, "a")
      let copy = try PullUpdatesReply(client.answer())
      try ask(client, "a", since: copy.revision, waits: Self.minute)
      try eventuallyWaiting(1)
      try nodes.reader().command(".db drop a")
      #expect(try PullUpdatesReply(client.answer()).pages.isEmpty)
      try ask(client, "a", since: copy.revision, waits: Self.minute)
      #expect(try client.answer().status == 404)
    }
  }
}
