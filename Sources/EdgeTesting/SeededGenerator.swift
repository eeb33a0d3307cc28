// Random numbers that are the same on each run. EDGE_SQL_SEED in the environment takes another
// sequence.

import Glibc

/// SplitMix64. Source: https://prng.di.unimi.it/splitmix64.c
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  public let seed: UInt64
  private var state: UInt64

  public init(seed: UInt64) {
    let given = getenv("EDGE_SQL_SEED").flatMap { UInt64(String(cString: $0)) }
    self.seed = given ?? seed
    state = self.seed
  }

  /// The sequence of this very seed, whatever the environment says.
  public init(exactly seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// A generator for a thread of its own, which follows from the seed of this one.
  public mutating func fork() -> SeededGenerator { SeededGenerator(exactly: next()) }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  public mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 32) }
  }
}
