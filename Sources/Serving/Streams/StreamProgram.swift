// What a stream asks of the primary in one round trip: statements that depend on how the ones
// before them ended. Hrana's pipelines, batches and scripts become such programs.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import Store
import WALShip

/// Steps that run one after the other on one connection.
public struct StreamProgram: Equatable, Sendable {
  public static let stepsMax = 1024

  public var steps: [ProgramStep]
  /// The interactive transaction that the stream has open at the primary.
  public var transaction: UInt64?
  /// The stream is in a transaction that has only read so far, at the node of its client: it is
  /// opened at the primary before the first step.
  public var begins = false
  /// What that transaction has read, for the primary to check.
  public var basis: TransactionBasis?
  /// The connection of its own that the stream has at the primary, for TEMP objects.
  public var session: UInt64?
  /// Every step reads, so the program needs no writer.
  public var isReading = false
  /// What `last_insert_rowid()` is before the first step.
  public var lastInsertRowid: Int64 = 0

  public init(steps: [ProgramStep], transaction: UInt64? = nil, session: UInt64? = nil) {
    self.steps = steps
    self.transaction = transaction
    self.session = session
  }
}

/// One step: it runs if its condition holds.
public struct ProgramStep: Equatable, Sendable {
  public enum Action: Equatable, Sendable {
    /// Exactly one statement. Without `wantsRows` its rows are counted and not returned.
    case execute(StatementRequest, wantsRows: Bool)
    case describe(SQLText)
    /// Whether a transaction is open.
    case autocommit
    /// It ran before the program was sent, at the replica.
    case done(isOK: Bool)
  }

  public var action: Action
  public var condition: StepCondition?

  public init(_ action: Action, if condition: StepCondition? = nil) {
    self.action = action
    self.condition = condition
  }
}

/// What a step depends on. Numbers are those of earlier steps of the same program.
public indirect enum StepCondition: Equatable, Sendable {
  case ok(Int)
  /// True also for a step that was skipped: as sqld has it, against the letter of the specification.
  case error(Int)
  case not(StepCondition)
  /// Empty: true.
  case and([StepCondition])
  /// Empty: false.
  case or([StepCondition])
  case isAutocommit

  public static let depthMax = 64

  /// - Parameter isOK: whether an earlier step ran and succeeded.
  public func holds(isAutocommit: Bool, isOK: (Int) -> Bool) -> Bool {
    switch self {
    case .ok(let step): isOK(step)
    case .error(let step): !isOK(step)
    case .not(let inner): !inner.holds(isAutocommit: isAutocommit, isOK: isOK)
    case .and(let all): all.allSatisfy { $0.holds(isAutocommit: isAutocommit, isOK: isOK) }
    case .or(let any): any.contains { $0.holds(isAutocommit: isAutocommit, isOK: isOK) }
    case .isAutocommit: isAutocommit
    }
  }
}

/// How a step ended.
public enum StepOutcome: Equatable, Sendable {
  case skipped
  case result(StatementResult)
  case description(StatementDescription)
  case autocommit(Bool)
  case failed(RequestError)

  public var isOK: Bool {
    switch self {
    case .skipped, .failed: false
    case .result, .description, .autocommit: true
    }
  }
}

/// What SQLite's compiler knows of a statement.
public struct StatementDescription: Equatable, Sendable {
  public struct Column: Equatable, Sendable {
    public var name: String
    /// The type as the table declares it; nil for expressions.
    public var declaredType: String?
    public init(name: String, declaredType: String?) {
      self.name = name
      self.declaredType = declaredType
    }
  }

  /// The names of the parameters with their prefixes; nil for `?`.
  public var parameters: [String?]
  public var columns: [Column]
  public var isExplain: Bool
  public var isReadOnly: Bool

  public init(
    parameters: [String?] = [], columns: [Column] = [], isExplain: Bool = false,
    isReadOnly: Bool = true
  ) {
    self.parameters = parameters
    self.columns = columns
    self.isExplain = isExplain
    self.isReadOnly = isReadOnly
  }
}
