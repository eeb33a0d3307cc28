// What a run of a stream has come to, and where the stream's transaction is.

import NIOCore
import Store
import WALShip

/// Steps that run together. It is used on its stream's loop alone.
final class StreamRunState {
  let steps: [ProgramStep]
  let options: RequestOptions
  /// Takes the outcomes while the run goes on; without one they are kept for its end.
  let outlet: (any StepOutlet)?
  let completion: (StreamRun) -> Void
  /// How the first steps ended.
  private(set) var outcomes: [StepOutcome] = []
  /// So many of them the outlet has been told.
  private var toldCount = 0
  private(set) var failure: RequestError?
  /// The node is new enough for reads of this run.
  var isAdmitted = false
  var isStale = false
  /// What the results may still take.
  var bytesLeft: Int

  init(
    steps: [ProgramStep], options: RequestOptions, bytesLeft: Int, outlet: (any StepOutlet)?,
    completion: @escaping (StreamRun) -> Void
  ) {
    self.steps = steps
    self.options = options
    self.bytesLeft = bytesLeft
    self.outlet = outlet
    self.completion = completion
  }

  var isOver: Bool { outcomes.count >= steps.count }

  /// Ends the present step.
  func end(_ outcome: StepOutcome) { outcomes.append(outcome) }

  func end(_ ends: some Sequence<StepOutcome>) { outcomes += ends }

  /// Ends the present step, whose result the outlet has taken.
  func endTold() {
    outcomes.append(.result(StatementResult()))
    toldCount = outcomes.count
  }

  /// The first outcome that the outlet has not been told, with its number. Of a result no more is
  /// kept than that there was one.
  func nextUntold() -> (step: Int, outcome: StepOutcome)? {
    guard outlet != nil, toldCount < outcomes.count else { return nil }
    let found = (step: toldCount, outcome: outcomes[toldCount])
    if case .result = found.outcome { outcomes[toldCount] = .result(StatementResult()) }
    toldCount += 1
    return found
  }

  /// Changes how the last step ended.
  func replaceLast(_ outcome: StepOutcome) { outcomes[outcomes.count - 1] = outcome }

  /// Ends the whole run: the steps that are left fail with `error`.
  func fail(_ error: RequestError) {
    failure = error
    while !isOver { outcomes.append(.failed(error)) }
  }

  func isOK(_ step: Int) -> Bool { outcomes.indices.contains(step) && outcomes[step].isOK }

  /// The steps that are left, behind what became of the others.
  var rest: [ProgramStep] {
    outcomes.map { ProgramStep(.done(isOK: $0.isOK)) } + steps[outcomes.count...]
  }

  /// The present step and those after it.
  var ahead: ArraySlice<ProgramStep> { steps[outcomes.count...] }
}

/// One statement of a run.
struct ReadStep {
  var request: StatementRequest
  var wantsRows: Bool
}

/// The transaction of a stream.
enum StreamTransaction {
  case none
  /// BEGIN was said, and nothing else: there is no snapshot yet.
  case begun
  /// A snapshot of this node.
  case reading(LocalTransaction)
  /// Open at the primary.
  case writing(UInt64)
  /// It was rolled back, but not because the client said so. Every statement fails until the client
  /// says ROLLBACK, COMMIT or BEGIN: what it has sent already must not run outside of the
  /// transaction it was meant for.
  case failed(RequestError)

  var isNone: Bool {
    if case .none = self { true } else { false }
  }
}
