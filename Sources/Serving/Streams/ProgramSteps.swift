// How the steps of a program follow each other, wherever they run.

import NIOCore
import Store
import WALShip

extension StreamProgram {
  /// Runs the steps in order.
  ///
  /// - Throws: what `execute` throws; a step that fails is an outcome.
  package func run<E: Error>(
    isAutocommit: () -> Bool, describe: (SQLText) -> StepOutcome,
    execute: (StatementRequest, _ wantsRows: Bool) throws(E) -> StepOutcome
  ) throws(E) -> [StepOutcome] {
    var outcomes: [StepOutcome] = []
    outcomes.reserveCapacity(steps.count)
    for step in steps {
      if let condition = step.condition,
        !condition.holds(
          isAutocommit: isAutocommit(),
          isOK: { outcomes.indices.contains($0) && outcomes[$0].isOK })
      {
        outcomes.append(.skipped)
        continue
      }
      switch step.action {
      case .execute(let statement, let wantsRows):
        outcomes.append(try execute(statement, wantsRows))
      case .describe(let sql): outcomes.append(describe(sql))
      case .autocommit: outcomes.append(.autocommit(isAutocommit()))
      case .done(let isOK): outcomes.append(isOK ? .result(StatementResult()) : .skipped)
      }
    }
    return outcomes
  }

  /// Whether the steps are one INSERT, UPDATE or DELETE that runs in any case, and perhaps reads and
  /// questions after it: such programs can share a transaction with others.
  package var isOneWrite: Bool {
    guard transaction == nil, session == nil, !begins, !isReading else { return false }
    var writes = 0
    for step in steps {
      guard case .execute(let statement, _) = step.action else { continue }
      switch StatementScanner.firstWords(of: statement.sql).first {
      case "insert", "update", "delete", "replace":
        guard step.condition == nil else { return false }
        writes += 1
      case "select", "values": break
      default: return false
      }
    }
    return writes == 1
  }
}

extension StatementExecutor {
  package func outcome(describing sql: SQLText) -> StepOutcome {
    do throws(RequestError) {
      return .description(try describe(sql))
    } catch { return .failed(error) }
  }
}
