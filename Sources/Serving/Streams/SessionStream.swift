// One stream of statements, whatever protocol it comes by: Hrana over HTTP or WebSocket. It decides
// for each step whether it runs here or at the primary; what these do is in the extensions
// SessionStreamReads, …Transactions and …Primary.
//
// Reads run here. From the first step that may write on, the rest of a run goes to the primary in
// one request. Line sessions do the same for one statement at a time.
// Source: docs/PROTOCOL.md, streams

import NIOCore
import Store
import WALShip

/// What became of the steps that were run together.
public struct StreamRun: Sendable {
  /// One for each step.
  public var outcomes: [StepOutcome]
  /// The newest state that the stream has seen or made.
  public var token: Token?
  /// Why the run as a whole came to its end early; the steps that it concerns have failed with it.
  public var failure: RequestError?
  public var isAutocommit: Bool
  /// The node had not reached the token, which the request accepts.
  public var isStale = false
}

/// A stream. It is used on its event loop alone.
public final class SessionStream {
  let node: NodeContext
  let loop: any EventLoop
  /// What the stream's client may do with the database; it may change with each request.
  public var access: AccessLevel

  // MARK: What later requests depend on

  var transaction = StreamTransaction.none
  /// The stream's own connection at the primary.
  var session: UInt64?
  var enforcesForeignKeys = true
  var lastInsertRowid: Int64 = 0
  /// The newest state that the stream has seen or made.
  public internal(set) var token: Token?

  // MARK: Work

  var run: StreamRunState?
  private var waiting: [StreamRunState] = []
  private(set) var isBusy = false
  /// Ends what the stream waits for.
  private var cancelWait: (() -> Void)?
  /// The read whose rows leave while it goes on.
  var feed: StepFeed?
  private var isAdvancing = false
  private(set) var isClosed = false
  /// The reader of the loop, once it could be opened.
  private var reader: LoopReader?

  public init(node: NodeContext, loop: any EventLoop, access: AccessLevel) {
    self.node = node
    self.loop = loop
    self.access = access
  }

  /// False also after a transaction was ended by its time limit, until the client says ROLLBACK or
  /// begins another.
  public var isAutocommit: Bool { transaction.isNone }

  /// Whether the stream has something that a later request could need.
  public var hasState: Bool { !isAutocommit || session != nil || !enforcesForeignKeys }

  /// Runs steps in order, after those that were given before.
  ///
  /// - Parameter completion: called once, on the loop, perhaps before this returns; never after
  ///   `close()`.
  public func run(
    _ steps: [ProgramStep], options: RequestOptions = RequestOptions(),
    completion: @escaping (StreamRun) -> Void
  ) {
    run(steps, options: options, outlet: nil, completion: completion)
  }

  /// - Parameter outlet: is told how each step ended; `completion` is then called with outcomes that
  ///   have no rows.
  func run(
    _ steps: [ProgramStep], options: RequestOptions, outlet: (any StepOutlet)?,
    completion: @escaping (StreamRun) -> Void
  ) {
    loop.preconditionInEventLoop()
    guard !isClosed else { return }
    waiting.append(
      StreamRunState(
        steps: steps, options: options, bytesLeft: node.limits.responseBytesMax,
        outlet: outlet, completion: completion))
    advance()
  }

  /// Rolls back what is open, and gives back what the stream holds.
  public func close() {
    guard !isClosed else { return }
    isClosed = true
    run = nil
    waiting = []
    cancelWait?()
    cancelWait = nil
    endTransaction()
    if let session { submit(EngineRequest(.leave(session: session))) { _ in } }
    session = nil
  }

  // MARK: Turns

  private func advance() {
    guard !isAdvancing else { return }
    isAdvancing = true
    defer { isAdvancing = false }
    let turnEnd = monotonicNanoseconds() + node.limits.turnMicrosecondsMax * 1000
    while !isBusy, !isClosed, let run = run ?? next() {
      if let outlet = run.outlet, let (step, outcome) = run.nextUntold() {
        tell(outcome, of: step, outlet)
      } else if run.isOver {
        finish(run)
      } else if monotonicNanoseconds() < turnEnd {
        start(run.steps[run.outcomes.count], run)
      } else {
        yield()
      }
    }
    reader?.endBatch()
  }

  private func next() -> StreamRunState? {
    guard !waiting.isEmpty else { return nil }
    let next = waiting.removeFirst()
    run = next
    if next.steps.count > StreamProgram.stepsMax {
      next.fail(
        RequestError(.badRequest, "more than \(StreamProgram.stepsMax) statements at once"))
    } else if access < .read {
      next.fail(.readDenied)
    }
    return next
  }

  private func finish(_ run: StreamRunState) {
    reader?.endBatch()
    self.run = nil
    run.completion(
      StreamRun(
        outcomes: run.outcomes, token: token, failure: run.failure, isAutocommit: isAutocommit,
        isStale: run.isStale))
  }

  private func tell(_ outcome: StepOutcome, of step: Int, _ outlet: any StepOutlet) {
    guard !outlet.take(outcome, of: step) else { return }
    suspend()
    outlet.whenRoom { self.resume {} }
  }

  /// Lets other connections have the loop, and goes on after them.
  private func yield() {
    let bound = NIOLoopBound(self, eventLoop: loop)
    suspend()
    loop.execute { bound.value.resume {} }
  }

  /// The stream waits for something that happens elsewhere.
  func suspend(cancel: @escaping () -> Void = {}) {
    reader?.endBatch()
    isBusy = true
    cancelWait = cancel
  }

  /// What the stream waited for has happened.
  func resume(_ step: () -> Void) {
    guard !isClosed else { return }
    isBusy = false
    cancelWait = nil
    step()
    advance()
  }

  // MARK: Steps

  private func start(_ step: ProgramStep, _ run: StreamRunState) {
    if let condition = step.condition,
      !condition.holds(isAutocommit: isAutocommit, isOK: { run.isOK($0) })
    {
      return run.end(.skipped)
    }
    switch step.action {
    case .autocommit: run.end(.autocommit(isAutocommit))
    case .done(let isOK): run.end(isOK ? .result(StatementResult()) : .skipped)
    case .describe(let sql):
      if isAtPrimary { sendRest(run) } else { describe(sql, run) }
    case .execute(let statement, let wantsRows):
      if case .failed(let error) = transaction {
        executeFailed(statement, error, run)
      } else if isAtPrimary {
        sendRest(run)
      } else {
        execute(ReadStep(request: statement, wantsRows: wantsRows), run)
      }
    }
  }

  /// Whether everything the stream does is done at the primary.
  private var isAtPrimary: Bool {
    if session != nil { return true }
    if case .writing = transaction { return true }
    return false
  }

  private func execute(_ step: ReadStep, _ run: StreamRunState) {
    switch kind(of: step.request.sql, run) {
    case .success(.read): startRead(step, run)
    case .success(.write): write(run)
    case .success(let kind): control(kind, run)
    case .failure(let error):
      if run.isAdmitted || Self.isFinal(error) { return run.end(.failed(error)) }
      // Perhaps it can be compiled when the node has reached the token.
      startRead(step, run)
    }
  }

  /// What must be done with a statement. What cannot be compiled here and begins like a write is for
  /// the primary to judge, as is what needs TEMP objects.
  func kind(of sql: SQLText, _ run: StreamRunState) -> Result<StatementKind, RequestError> {
    do throws(RequestError) {
      let reader = try loopReader()
      do throws(RequestError) {
        return .success(try reader.statement(sql).kind)
      } catch {
        if reader.refusedTemporaryObject { return .success(.write) }
        throw error
      }
    } catch {
      if !Self.isFinal(error), StatementKind.ofUncompiled(sql) == .write {
        return .success(.write)
      }
      return .failure(error)
    }
  }

  /// Whether a compiler's refusal would be the same on every node.
  static func isFinal(_ error: RequestError) -> Bool {
    error.code == ErrorCode.notAllowed.rawValue || error.code == ErrorCode.badRequest.rawValue
  }

  func loopReader() throws(RequestError) -> LoopReader {
    if let reader { return reader }
    let opened = try node.readers.loopReader(on: loop)
    reader = opened
    return opened
  }

  // MARK: Tokens

  /// Notes what the stream has seen, so that it never sees less.
  func raise(_ seen: Token) {
    guard let token, token.database == seen.database else {
      self.token = seen
      return
    }
    if (seen.epoch, seen.txid) > (token.epoch, token.txid) { self.token = seen }
  }

  /// What the stream saw is lost. Its client has been told, and goes on with what there is.
  func forget(ifLost error: RequestError) {
    if error.code == ErrorCode.tokenEpoch.rawValue { token = nil }
  }

  /// What the client has seen, here or elsewhere.
  func tokens(_ options: RequestOptions) -> [Token] {
    guard let shown = options.token, shown != token else { return [token].compactMap(\.self) }
    return [shown] + [token].compactMap(\.self)
  }
}
