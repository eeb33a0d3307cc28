// Streams judge tokens again when they have their snapshot: an epoch can have begun since the run
// was admitted.

import EdgeTesting
import NIOCore
import NIOPosix
import Serving
import Store
import Synchronization
import TestTraits
import Testing
import WALShip

@Suite(.services) struct StreamTokenTests {
  /// A read that the loop hands to the pool.
  private static let slow =
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 300000) SELECT max(n) FROM c"

  private func steps(_ statements: [String]) -> [ProgramStep] {
    statements.map {
      ProgramStep(.execute(StatementRequest(sql: SQLText($0)), wantsRows: true))
    }
  }

  /// Starts a run on a stream, and gives what became of it when it has ended.
  private func start(
    _ stream: NIOLoopBound<SessionStream>, _ statements: [String], _ token: Token?
  ) -> EventLoopFuture<StreamRun> {
    let promise = stream.eventLoop.makePromise(of: StreamRun.self)
    var options = RequestOptions()
    options.token = token
    options.lagPolicy = .error
    let (steps, given) = (steps(statements), options)
    stream.eventLoop.execute {
      stream.value.run(steps, options: given) { promise.succeed($0) }
    }
    return promise.futureResult
  }

  /// The node begins another epoch, which has lost the last transaction; its pages stay as they are.
  private func rewind(_ node: NodeContext) throws {
    let tracker = node.tracker
    var position = tracker.position
    var history = tracker.epochs
    history.fork(after: TXID(position.txid.rawValue - 1), step: 1)
    position.epoch = history.current
    let place = try #require(node.logWatch.place)
    tracker.advance(to: position, at: place, history: history)
  }

  @Test(arguments: [
    ["SELECT 1", slow, "SELECT 2"], ["SELECT 1", "BEGIN", "SELECT 2", "COMMIT"], [slow],
    ["BEGIN", "SELECT 1", "SELECT 2"],
  ])
  func aHistoryThatIsLostBeforeTheSnapshotIsNotReadOn(_ statements: [String]) async throws {
    var limits = ServingLimits()
    limits.readersMax = 1
    try await withNode(role: .replica, limits: limits) { (node) async throws in
      let token = try #require(try node.client().ask("CREATE TABLE t(n)").token)
      let context = node.node
      let loop = MultiThreadedEventLoopGroup.singleton.next()
      func stream() async throws -> NIOLoopBound<SessionStream> {
        try await loop.submit {
          NIOLoopBound(
            SessionStream(node: context, loop: loop, access: .read), eventLoop: loop)
        }.get()
      }
      // One transaction has the only reader; the other stream waits for it.
      let first = try await stream()
      _ = try await start(first, ["BEGIN", "SELECT 1"], nil).get()
      let second = try await stream()
      let waiting = start(second, statements, token)
      try eventually("the wait for a reader") { context.readers.pool.counts.waiting == 1 }
      try rewind(context)
      _ = try await start(first, ["COMMIT"], nil).get()
      let run = try await waiting.get()
      #expect(run.failure?.code == "TOKEN_EPOCH")
      guard case .failed(let error)? = run.outcomes.last else {
        Issue.record("what was lost was read: \(run.outcomes)")
        return
      }
      #expect(error.code == "TOKEN_EPOCH")
      #expect(run.outcomes.count == statements.count)
      // The client was told. It goes on with what there is.
      let after = try await start(second, ["ROLLBACK", "SELECT 7"], nil).get()
      #expect(after.failure == nil)
      guard case .result(let result)? = after.outcomes.last else {
        Issue.record("the stream does not go on: \(after.outcomes)")
        return
      }
      #expect(result.rows == [[.integer(7)]])
      try await loop.submit {
        first.value.close()
        second.value.close()
      }.get()
    }
  }
}
