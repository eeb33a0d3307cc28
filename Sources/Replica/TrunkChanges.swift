// Changes of which databases there are, which clients of this replica want: the primary makes them.

import NIOCore
import Serving
import WALShip

/// Those that wait for the answer from above. It belongs to the trunk's loop.
struct TrunkChanges {
  typealias Completion = @Sendable (RequestError?) -> Void

  private struct Waiting {
    var completion: Completion
    var timer: Scheduled<Void>
  }

  private var waiting: [UInt64: Waiting] = [:]
  private var next: UInt64 = 1

  /// A copy of a large database takes its time.
  static let secondsMax: Int64 = 120

  var isFull: Bool { waiting.count >= ShipChange.waitingMax }

  /// - Parameter timer: made for the number of the change; calls `answered` when it took too long.
  mutating func add(
    _ completion: @escaping Completion, timer: (UInt64) -> Scheduled<Void>
  ) -> UInt64 {
    defer { next += 1 }
    waiting[next] = Waiting(completion: completion, timer: timer(next))
    return next
  }

  mutating func answered(_ number: UInt64, _ error: RequestError?) {
    guard let known = waiting.removeValue(forKey: number) else { return }
    known.timer.cancel()
    known.completion(error)
  }

  mutating func linkLost() {
    for number in waiting.keys { answered(number, Self.lost) }
  }

  static let lost = RequestError(
    .outcomeUnknown,
    "the link to the primary broke after the change was sent: it was made, or not at all")
  static let late = RequestError(
    .outcomeUnknown, "the primary did not answer within \(secondsMax) s: it may still do it")
}

extension ShipChanged {
  /// Why the change was not made, for its client.
  var error: RequestError? {
    failure.map { RequestError(code: $0.code, message: $0.message, retry: $0.retry) }
  }
}
