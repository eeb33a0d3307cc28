// Where random numbers come from. A simulation puts a generator of its own in place, so that a
// seed gives the same run again.

/// The system's random numbers, or those of a simulation.
public struct Chance: RandomNumberGenerator {
  /// Set once, before anything else runs, by a process that simulates.
  nonisolated(unsafe) package static var substitute: (@Sendable () -> UInt64)?  // set first

  public init() {}

  public mutating func next() -> UInt64 {
    if let substitute = Self.substitute { return substitute() }
    var system = SystemRandomNumberGenerator()
    return system.next()
  }

  /// A number in `range`, each as likely as any other.
  public static func number<T: FixedWidthInteger>(in range: ClosedRange<T>) -> T {
    var chance = Chance()
    return T.random(in: range, using: &chance)
  }
}
