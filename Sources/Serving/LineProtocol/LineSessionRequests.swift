// What a line asks for: which kind of work it is, and whether it may be done in the present state
// of the session.

import NIOCore
import Store
import WALShip

/// What every answer needs to know of its request.
struct AnswerHead {
  var id: ByteBuffer?
  /// When the work began, by the monotonic clock, in nanoseconds.
  var started: UInt64
}

/// A request whose kind is known.
enum LinePlan {
  case read(CachedStatement, StatementRequest)
  /// A read that cannot be compiled: perhaps it can when the node has reached the token.
  case uncompiled(StatementRequest)
  case readBatch([StatementRequest])
  case write([StatementRequest], isBatch: Bool)
  case control(StatementKind, StatementRequest)
  case command(name: String, arguments: [String])
  case authenticate(String)
  /// White space and comments.
  case nothing
  case failed(RequestError, statement: Int?)
}

extension LineSession {
  /// Starts a request.
  ///
  /// - Returns: false when it must wait until the writes before it are answered.
  func start(_ request: LineRequest, at now: UInt64) -> Bool {
    let head = AnswerHead(id: request.id, started: now)
    let plan: LinePlan
    if case .authenticate(let credential) = request.body {
      plan = .authenticate(credential)
    } else {
      plan = permitted(request, at: now)
    }
    if case .write(let statements, let isBatch) = plan, case .none = transaction {
      endBatch()
      return startWrite(head, request.options, statements, isBatch: isBatch)
    }
    guard writes.isEmpty else { return false }
    if let error = refusal(of: plan, request.options) {
      answer(head, error: error)
      return true
    }
    switch plan {
    case .read(let cached, let statement):
      startRead(
        ReadJob(head: head, options: request.options, statement: statement, cached: cached))
    case .uncompiled(let statement):
      startRead(ReadJob(head: head, options: request.options, statement: statement, cached: nil))
    case .readBatch(let statements):
      startRead(ReadJob(head: head, options: request.options, batch: statements))
    case .write(let statements, let isBatch):
      writeInTransaction(head, request.options, statements, isBatch: isBatch)
    case .control(let kind, let statement):
      endBatch()
      control(kind, statement, head, request.options)
    case .command(let name, let arguments):
      endBatch()
      command(name, arguments, head)
    case .authenticate(let credential): authenticate(credential, head)
    case .nothing: answerOK(head)
    case .failed(let error, let statement): answer(head, error: error, statement: statement)
    }
    return true
  }

  /// What a line asks for, or why its client may not ask for it.
  private func permitted(_ request: LineRequest, at now: UInt64) -> LinePlan {
    if let error = refusal(ofLine: request.body, at: now) { return .failed(error, statement: nil) }
    let plan = plan(request)
    return refusal(ofAccess: plan).map { .failed($0, statement: nil) } ?? plan
  }

  /// What is wrong with the options of a request.
  private func refusal(of plan: LinePlan, _ options: RequestOptions) -> RequestError? {
    // Whoever may do nothing is not told which databases there are.
    if case .failed = plan { return nil }
    if let name = options.database, name != node.databaseName { return .unknownDatabase(name) }
    guard options.idempotencyKey != nil else { return nil }
    return RequestError(.badRequest, "\"key\" is for writes outside of transactions")
  }

  // MARK: Kinds

  private func plan(_ request: LineRequest) -> LinePlan {
    switch request.body {
    case .script(let sql): return plan(script: sql)
    case .statement(let statement): return plan(statement)
    case .batch(let statements): return plan(batch: statements)
    case .command(let name, let arguments):
      if let query = Self.schemaQuery(name, arguments) { return plan(query) }
      return .command(name: name, arguments: arguments)
    case .authenticate(let credential): return .authenticate(credential)
    case .none:
      return .failed(
        RequestError(.badRequest, "the request has no \"sql\", \"batch\" or \"auth\""),
        statement: nil)
    }
  }

  /// Most lines are one statement that is known already; only the others are scanned.
  private func plan(script: SQLText) -> LinePlan {
    let reader: LoopReader
    do throws(RequestError) {
      reader = try loopReader()
      let cached = try reader.statement(script)
      return plan(cached, StatementRequest(sql: script))
    } catch {
      let statements = StatementScanner.statements(of: script)
      switch statements.count {
      case 0: return .nothing
      case 1: return planUncompiled(StatementRequest(sql: script), error)
      default: return plan(batch: statements.map { StatementRequest(sql: $0) })
      }
    }
  }

  private func plan(_ statement: StatementRequest) -> LinePlan {
    do throws(RequestError) {
      return plan(try loopReader().statement(statement.sql), statement)
    } catch {
      return planUncompiled(statement, error)
    }
  }

  private func plan(_ cached: CachedStatement, _ statement: StatementRequest) -> LinePlan {
    switch cached.kind {
    case .read: .read(cached, statement)
    case .write: .write([statement], isBatch: false)
    case .begin, .commit, .rollback, .savepoint, .release, .rollbackTo, .setForeignKeys,
      .foreignKeys:
      .control(cached.kind, statement)
    }
  }

  private func planUncompiled(_ statement: StatementRequest, _ error: RequestError) -> LinePlan {
    if isFinal(error) { return .failed(error, statement: nil) }
    if StatementKind.ofUncompiled(statement.sql) == .write {
      return .write([statement], isBatch: false)
    }
    return .uncompiled(statement)
  }

  /// Whether a compiler's refusal would be the same on every node.
  private func isFinal(_ error: RequestError) -> Bool {
    error.code == ErrorCode.notAllowed.rawValue || error.code == ErrorCode.badRequest.rawValue
  }

  /// So many statements of a batch are compiled here to learn what they are.
  private static let compiledMax = 64

  private func plan(batch statements: [StatementRequest]) -> LinePlan {
    guard statements.count <= LineParser.statementsMax else {
      return .failed(
        RequestError(.badRequest, "a batch has at most \(LineParser.statementsMax) statements"),
        statement: nil)
    }
    var writes = false
    for (index, statement) in statements.enumerated() {
      var kind: StatementKind?
      if writes || index >= Self.compiledMax {
        kind = StatementKind.byFirstWord(statement.sql)
      } else {
        do throws(RequestError) {
          kind = try loopReader().statement(statement.sql).kind
        } catch {
          if isFinal(error) { return .failed(error, statement: index) }
          kind = StatementKind.ofUncompiled(statement.sql) ?? .read
        }
      }
      if let kind, kind.controlsTransaction {
        return .failed(
          RequestError(
            .notAllowed,
            "a batch is already one transaction: BEGIN, COMMIT, ROLLBACK and "
              + "SAVEPOINT cannot be in it"),
          statement: index)
      }
      if kind == nil || kind == .write { writes = true }
    }
    return writes ? .write(statements, isBatch: true) : .readBatch(statements)
  }

  // MARK: The reader of the loop

  func loopReader() throws(RequestError) -> LoopReader {
    if let reader { return reader }
    let opened = try node.readers.loopReader(on: loop)
    reader = opened
    return opened
  }

  /// Ends the transaction around consecutive reads.
  func endBatch() { reader?.endBatch() }

  // MARK: Asking the primary

  func ask(_ work: EngineRequest.Work, then: @escaping (EngineResponse) -> Void) {
    ask(EngineRequest(work), then: then)
  }

  /// Hands a request to the primary; `then` is called on the loop, also when the client is gone by
  /// then.
  func ask(_ request: EngineRequest, then: @escaping (EngineResponse) -> Void) {
    var request = request
    request.access = level
    let bound = NIOLoopBound(then, eventLoop: loop)
    node.primary.submit(request, on: loop) { response in bound.value(response) }
  }

  /// The time limit of a request: the lowest of its own, the session's and the node's.
  func statementMilliseconds(_ options: RequestOptions) -> Int {
    min(
      options.timeoutMilliseconds ?? .max, timeoutMilliseconds ?? .max,
      node.limits.statementMilliseconds)
  }
}
