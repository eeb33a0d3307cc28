// What a run of a stream has come to, and where the stream's transaction is.

import NIOCore
import Store
import WALShip

/// Steps that run together. It is used on its stream's loop alone.
final class StreamRunState {
  let steps: [ProgramStep]
  let options: RequestOptions
  let completion: (StreamRun) -> Void
  /// How the first steps ended.
  private(set) var outcomes: [StepOutcome] = []
  private(set) var failure: RequestError?
  /// The node is new enough for reads of this run.
  var isAdmitted = false
  var isStale = false
  /// What the results may still take.
  var bytesLeft: Int

  init(
    steps: [ProgramStep], options: RequestOptions, bytesLeft: Int,
    completion: @escaping (StreamRun) -> Void
  ) {
    self.steps = steps
    self.options = options
    self.bytesLeft = bytesLeft
    self.completion = completion
  }

  var isOver: Bool { outcomes.count >= steps.count }

  /// Ends the present step.
  func end(_ outcome: StepOutcome) { outcomes.append(outcome) }

  func end(_ ends: some Sequence<StepOutcome>) { outcomes += ends }

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
