// A primary and a replica in this process, and streams on either, whose requests to the primary are
// counted.

import EdgeTesting
import Logging
import NIOCore
import NIOPosix
import Primary
import Replica
import Serving
import Store
import Synchronization
import Testing
import WALShip

/// Hands requests on, and keeps them.
final class CountingAccess: PrimaryAccess {
  private let inner: any PrimaryAccess
  private let seen = Mutex<[EngineRequest]>([])
  init(_ inner: any PrimaryAccess) { self.inner = inner }

  func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void
  ) {
    seen.withLock { $0.append(request) }
    inner.submit(request, on: loop, completion: completion)
  }

  /// The requests since the last call.
  func take() -> [EngineRequest] {
    seen.withLock { seen in
      defer { seen = [] }
      return seen
    }
  }
}

/// A stream, for a test that waits for it.
final class TestStream: Sendable {
  private let loop: any EventLoop
  private let stream: NIOLoopBound<SessionStream>

  init(_ node: NodeContext, access: AccessLevel = .admin) async throws {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    self.loop = loop
    stream = try await loop.submit {
      NIOLoopBound(SessionStream(node: node, loop: loop, access: access), eventLoop: loop)
    }.get()
  }

  func run(_ steps: [ProgramStep], _ options: RequestOptions = RequestOptions()) async throws
    -> StreamRun
  {
    let stream = stream
    let promise = loop.makePromise(of: StreamRun.self)
    loop.execute { stream.value.run(steps, options: options) { promise.succeed($0) } }
    return try await promise.futureResult.get()
  }

  /// One statement: its rows, or the error that is thrown.
  @discardableResult
  func rows(_ sql: String, _ options: RequestOptions = RequestOptions()) async throws -> [[Value]] {
    try await result(sql, options).rows
  }

  @discardableResult
  func result(
    _ sql: String, _ options: RequestOptions = RequestOptions()
  ) async throws -> StatementResult {
    let run = try await run([.sql(sql)], options)
    switch run.outcomes[0] {
    case .result(let result): return result
    case .failed(let error): throw error
    case .skipped, .description, .autocommit: throw TestFailure("no result: \(run.outcomes[0])")
    }
  }

  /// The code of the error that one statement ends with.
  func code(_ sql: String, _ options: RequestOptions = RequestOptions()) async throws -> String? {
    try await run([.sql(sql)], options).outcomes[0].code
  }

  var isAutocommit: Bool {
    get async throws { try await loop.submit { [stream] in stream.value.isAutocommit }.get() }
  }

  var hasState: Bool {
    get async throws { try await loop.submit { [stream] in stream.value.hasState }.get() }
  }

  func close() async throws { try await loop.submit { [stream] in stream.value.close() }.get() }
}

/// Nodes, and contexts of theirs that count.
final class StreamCluster: Sendable {
  let directory: TestDirectory
  let primary: PrimaryService
  let replica: ReplicaService?
  let node: NodeContext
  let access: CountingAccess

  private init(
    _ directory: TestDirectory, _ primary: PrimaryService, _ replica: ReplicaService?,
    _ context: NodeContext
  ) {
    self.directory = directory
    self.primary = primary
    self.replica = replica
    access = CountingAccess(context.primary)
    node = NodeContext(
      role: context.role, databasePath: context.databasePath, tracker: context.tracker,
      logWatch: context.logWatch, primary: access, limits: context.limits,
      status: context.status, pages: context.pages,
      contactMilliseconds: context.contactMilliseconds, logger: context.logger)
  }

  func stream(access: AccessLevel = .admin) async throws -> TestStream {
    try await TestStream(node, access: access)
  }

  /// Runs `body` with streams on a node of that role.
  static func with(
    _ role: NodeRole = .primary, limits: ServingLimits = ServingLimits(),
    _ body: (StreamCluster) async throws -> Void
  ) async throws {
    let directory = try TestDirectory()
    var options = NodeOptions()
    options.limits = limits
    options.ship = NodeAddress(host: "127.0.0.1", port: 0)
    let primary = try await PrimaryService(
      configuration: PrimaryConfiguration(
        databasePath: directory.file("primary.db"), options: options))
    var replica: ReplicaService?
    if role == .replica {
      let upstream = NodeAddress(host: "127.0.0.1", port: try #require(primary.shipAddress?.port))
      var own = NodeOptions()
      own.limits = limits
      replica = try await ReplicaService(
        configuration: ReplicaConfiguration(
          databasePath: directory.file("replica.db"), upstreams: [upstream], options: own))
      try await replica?.waitUntilReady()
    }
    let context = try replica.map { try #require($0.context) } ?? primary.context
    let cluster = StreamCluster(directory, primary, replica, context)
    do {
      try await body(cluster)
    } catch {
      await cluster.stop()
      throw error
    }
    await cluster.stop()
    if role == .replica {
      try samePages(directory.file("primary.db"), directory.file("replica.db"))
    }
  }

  private func stop() async {
    if let replica {
      try? eventually("the replica at the primary's position") {
        replica.position == primary.tracker.position
      }
    }
    node.readers.close()
    await replica?.stop()
    await primary.stop()
  }
}

extension ProgramStep {
  static func sql(
    _ sql: String, _ arguments: [Value] = [], if condition: StepCondition? = nil,
    wantsRows: Bool = true
  ) -> ProgramStep {
    let statement = StatementRequest(
      sql: SQLText(sql), arguments: arguments.isEmpty ? .none : .positional(arguments))
    return ProgramStep(.execute(statement, wantsRows: wantsRows), if: condition)
  }

  /// What Hrana's clients make of a transaction in one batch.
  static func batch(_ statements: [String]) -> [ProgramStep] {
    var steps = [ProgramStep.sql("BEGIN")]
    for statement in statements { steps.append(.sql(statement, if: .ok(steps.count - 1))) }
    steps.append(.sql("COMMIT", if: .ok(steps.count - 1)))
    steps.append(.sql("ROLLBACK", if: .not(.ok(steps.count - 1))))
    return steps
  }
}

extension StepOutcome {
  var code: String? {
    if case .failed(let error) = self { error.code } else { nil }
  }
  var rows: [[Value]]? {
    if case .result(let result) = self { result.rows } else { nil }
  }
  var result: StatementResult? {
    if case .result(let result) = self { result } else { nil }
  }
}
