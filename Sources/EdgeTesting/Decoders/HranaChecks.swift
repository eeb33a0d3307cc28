// What a client of Hrana can send: bodies of pipelines, up to the programs that they become.

import NIOCore
import Serving

extension DecoderCheck {
  static let hranaChecks = [DecoderCheck("hrana", checkHrana)]

  /// A body is the same programs each time; no program is too long, and no step depends on one that
  /// does not come before it.
  private static func checkHrana(_ bytes: [UInt8]) throws {
    let body = ByteBuffer(bytes: bytes)
    let programs = HranaInput.programs(ofPipeline: body)
    try require(HranaInput.programs(ofPipeline: body) == programs, "one body is two pipelines")
    guard let programs else { return }
    let count = programs.reduce(0) { $0 + $1.count }
    try require(count <= HranaInput.stepsMax, "\(count) steps")
    for program in programs {
      try require(program.count <= StreamProgram.stepsMax, "a program of \(program.count) steps")
      for (number, step) in program.enumerated() {
        guard let condition = step.condition else { continue }
        try require(reaches(condition) < number, "step \(number) depends on \(condition)")
      }
    }
  }

  /// The last step that a condition looks at; -1 for none.
  private static func reaches(_ condition: StepCondition) -> Int {
    switch condition {
    case .ok(let step), .error(let step): step
    case .not(let inner): reaches(inner)
    case .and(let all), .or(let all): all.map(reaches).max() ?? -1
    case .isAutocommit: -1
    }
  }
}
