// Makes steps of requests, and an answer of what became of the steps. The requests of a pipeline
// run as one program, so that they need one round trip where they write.

import NIOCore
import Store
import WALShip

/// What became of one request.
enum HranaOutcome {
  case executed(StepOutcome)
  case batch([StepOutcome])
  case sequence(HranaError?)
  case described(StepOutcome)
  case autocommit(Bool)
  /// There was nothing to do that could fail.
  case done(StaticString)
  case failed(HranaError)
}

/// The steps of several requests, and which of them belong to which.
struct HranaRun {
  private enum Part {
    case execute(Int)
    case batch(Range<Int>)
    case sequence(Range<Int>)
    case describe(Int)
    case autocommit(Int)
    case done(StaticString)
    case failed(HranaError)
  }

  private(set) var steps: [ProgramStep] = []
  private var parts: [Part] = []
  /// The script at the end goes on with the next run, if all went well up to here.
  private(set) var goesOn = false
  /// The newest state that a request asks to see.
  private(set) var replicationIndex: UInt64?

  private static let stepsMax = StreamProgram.stepsMax
  /// What the requests of one pipeline may have together: stored scripts can be named many times.
  static let stepsTotalMax = 200_000
  /// No more statements of a request are looked at before it runs.
  private static let parsedMax = 256

  /// As few runs as possible: one, if the requests have no more steps than a program may have.
  ///
  /// - Parameter parser: finds texts that no node could compile, before anything of a batch runs.
  static func make(
    _ requests: [HranaRequest], parser: (SQLText) -> HranaError?
  ) throws(HranaFailure) -> [HranaRun] {
    var runs: [HranaRun] = []
    var total = 0
    var present = HranaRun()
    func room(for count: Int) {
      guard present.steps.count + count > stepsMax else { return }
      runs.append(present)
      present = HranaRun()
    }
    for request in requests {
      guard case .sequence(let script) = request else {
        if case .batch(let batch) = request { room(for: batch.steps.count) } else { room(for: 1) }
        present.add(request, parser)
        continue
      }
      var statements = StatementScanner.statements(of: script)[...]
      total += statements.count
      guard total <= stepsTotalMax else {
        throw .malformed("more than \(stepsTotalMax) statements at once")
      }
      if let error = statements.prefix(parsedMax).lazy.compactMap(parser).first {
        present.parts.append(.failed(error))
        continue
      }
      room(for: min(statements.count, stepsMax))
      let isLong = statements.count > stepsMax
      while statements.count > stepsMax {
        var piece = HranaRun()
        swap(&piece, &present)
        piece.add(script: statements.prefix(stepsMax))
        piece.goesOn = true
        statements = statements.dropFirst(stepsMax)
        runs.append(piece)
      }
      present.add(script: statements)
      guard isLong else { continue }
      // The end of the script is a run of its own, which can be left out.
      runs.append(present)
      present = HranaRun()
    }
    return runs + [present]
  }

  private mutating func add(_ request: HranaRequest, _ parser: (SQLText) -> HranaError?) {
    switch request {
    case .execute(let statement): add(statement)
    case .batch(let batch): add(batch, parser)
    case .sequence: preconditionFailure("scripts are split before")
    case .describe(let sql):
      parts.append(.describe(steps.count))
      steps.append(ProgramStep(.describe(sql)))
    case .autocommit:
      parts.append(.autocommit(steps.count))
      steps.append(ProgramStep(.autocommit))
    case .storeSQL: parts.append(.done("store_sql"))
    case .closeSQL: parts.append(.done("close_sql"))
    case .close: parts.append(.done("close"))
    case .failed(let error): parts.append(.failed(error))
    }
  }

  private mutating func note(_ index: UInt64?) {
    guard let index else { return }
    replicationIndex = max(replicationIndex ?? 0, index)
  }

  private mutating func add(_ statement: HranaStatement) {
    note(statement.replicationIndex)
    if let error = statement.error { return parts.append(.failed(error)) }
    parts.append(.execute(steps.count))
    steps.append(ProgramStep(.execute(statement.statement, wantsRows: statement.wantsRows)))
  }

  private mutating func add(_ batch: HranaBatch, _ parser: (SQLText) -> HranaError?) {
    note(batch.replicationIndex)
    for (index, step) in batch.steps.enumerated() {
      note(step.statement.replicationIndex)
      let unparsable = index < Self.parsedMax ? parser(step.statement.statement.sql) : nil
      if let error = step.statement.error ?? unparsable { return parts.append(.failed(error)) }
    }
    let first = steps.count
    for step in batch.steps {
      steps.append(
        ProgramStep(
          .execute(step.statement.statement, wantsRows: step.statement.wantsRows),
          if: step.condition?.shifted(by: first)))
    }
    parts.append(.batch(first..<steps.count))
  }

  /// Statements of a script depend on the one before: it stops at the first that fails.
  private mutating func add(script statements: ArraySlice<SQLText>) {
    let first = steps.count
    for sql in statements {
      steps.append(
        ProgramStep(
          .execute(StatementRequest(sql: sql), wantsRows: false),
          if: steps.count > first ? .ok(steps.count - 1) : nil))
    }
    parts.append(.sequence(first..<steps.count))
  }

  func outcomes(_ run: StreamRun) -> [HranaOutcome] {
    let ended = run.outcomes
    return parts.map { part in
      switch part {
      case .execute(let step): .executed(ended[step])
      case .batch(let steps): .batch(Array(ended[steps]))
      case .sequence(let steps): .sequence(Self.error(in: ended[steps]))
      case .describe(let step): .described(ended[step])
      case .autocommit(let step):
        if case .autocommit(let isAutocommit) = ended[step] {
          .autocommit(isAutocommit)
        } else {
          .autocommit(run.isAutocommit)
        }
      case .done(let name): .done(name)
      case .failed(let error): .failed(error)
      }
    }
  }

  private static func error(in outcomes: ArraySlice<StepOutcome>) -> HranaError? {
    for case .failed(let error) in outcomes { return HranaError(error) }
    return nil
  }
}

extension StepCondition {
  /// The same condition where the steps have other numbers.
  fileprivate func shifted(by count: Int) -> StepCondition {
    switch self {
    case .ok(let step): .ok(step + count)
    case .error(let step): .error(step + count)
    case .not(let inner): .not(inner.shifted(by: count))
    case .and(let all): .and(all.map { $0.shifted(by: count) })
    case .or(let any): .or(any.map { $0.shifted(by: count) })
    case .isAutocommit: .isAutocommit
    }
  }
}

/// What answers need beside the outcomes.
struct HranaTotals {
  var token: Token?
  var milliseconds: Double
  var index: UInt64? { token?.replicationIndex }
}

extension OutputBytes {
  /// `{"type":"ok","response":…}` or `{"type":"error","error":…}`.
  mutating func writeHrana(_ outcome: HranaOutcome, _ totals: HranaTotals) {
    let start = count
    append("{\"type\":\"ok\",\"response\":")
    if let error = writeResponse(outcome, totals) {
      truncate(to: start)
      append("{\"type\":\"error\",\"error\":")
      error.write(into: &self)
    }
    append("}")
  }

  /// The response alone; or the error that there is instead, with something written that is of no
  /// use.
  mutating func writeResponse(_ outcome: HranaOutcome, _ totals: HranaTotals) -> HranaError? {
    switch outcome {
    case .executed(.result(let result)):
      append("{\"type\":\"execute\",\"result\":")
      guard writeHrana(result, index: totals.index, milliseconds: totals.milliseconds) else {
        return .notUTF8
      }
      append("}")
    case .batch(let steps):
      append("{\"type\":\"batch\",\"result\":")
      writeHrana(batch: steps, totals)
      append("}")
    case .sequence(nil): append("{\"type\":\"sequence\"}")
    case .described(.description(let description)):
      append("{\"type\":\"describe\",\"result\":")
      writeHrana(description)
      append("}")
    case .autocommit(let isAutocommit):
      append("{\"type\":\"get_autocommit\",\"is_autocommit\":")
      append(isAutocommit ? "true}" : "false}")
    case .done(let name):
      append("{\"type\":\"")
      append(name)
      append("\"}")
    case .sequence(let error?), .failed(let error): return error
    case .executed(.failed(let error)), .described(.failed(let error)): return HranaError(error)
    case .executed, .described:
      preconditionFailure("a statement without conditions ends with a result or an error")
    }
    return nil
  }

  mutating func writeHrana(batch steps: [StepOutcome], _ totals: HranaTotals) {
    var errors: [HranaError?] = []
    append("{\"step_results\":[")
    for (index, step) in steps.enumerated() {
      if index > 0 { append(",") }
      var error: HranaError?
      switch step {
      case .result(let result):
        // As in sqld, only the batch as a whole has an index.
        if !writeHrana(result, index: nil, milliseconds: totals.milliseconds) { error = .notUTF8 }
      case .failed(let failure): error = HranaError(failure)
      case .skipped, .description, .autocommit: append("null")
      }
      if error != nil { append("null") }
      errors.append(error)
    }
    append("],\"step_errors\":[")
    for (index, error) in errors.enumerated() {
      if index > 0 { append(",") }
      if let error { error.write(into: &self) } else { append("null") }
    }
    append("],\"replication_index\":")
    writeOptional(totals.index.map { "\($0)" })
    append("}")
  }
}
