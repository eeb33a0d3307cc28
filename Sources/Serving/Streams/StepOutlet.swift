// Where the outcomes of a run go that are not kept until its end: to the answer of a cursor.

import NIOCore

/// Takes what a run comes to. It is used on the stream's loop alone.
///
/// Who was told that there is no more room waits with everything else until there is.
protocol StepOutlet: AnyObject {
  /// Takes how a step ended.
  ///
  /// - Returns: whether there is room for more.
  func take(_ outcome: StepOutcome, of step: Int) -> Bool

  /// Takes a piece of the result of the present step.
  ///
  /// - Returns: whether there is room for more.
  func take(_ entries: ByteBuffer) -> Bool

  /// Calls `then` on the loop when there is room again; never when the client is gone.
  func whenRoom(_ then: @escaping () -> Void)
}
