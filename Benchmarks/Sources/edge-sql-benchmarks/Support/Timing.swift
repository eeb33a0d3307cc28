// How long a call takes, and how the times of many are told.

import Store

enum Timing {
  /// Runs `pass` until the time is over.
  ///
  /// - Parameter calls: what one pass does, so that the clock is looked at rarely.
  /// - Returns: nanoseconds for each call.
  static func nanosecondsPerCall(
    seconds: Double, calls: Int, pass: () throws -> Void
  ) rethrows -> Double {
    let limit = UInt64(seconds * 1e9)
    let start = monotonicNanoseconds()
    var spent: UInt64 = 0
    var passes = 0
    repeat {
      try pass()
      passes += 1
      spent = monotonicNanoseconds() - start
    } while spent < limit
    return Double(spent) / Double(passes * calls)
  }

  /// The same as a rate.
  ///
  /// - Parameter between: what must be done now and then and does not count.
  static func callsPerSecond(
    seconds: Double, calls: Int, between: () throws -> Void = {}, pass: () throws -> Void
  ) throws -> Double {
    let limit = UInt64(seconds * 1e9)
    var spent: UInt64 = 0
    var passes = 0
    repeat {
      let start = monotonicNanoseconds()
      try pass()
      spent += monotonicNanoseconds() - start
      passes += 1
      try between()
    } while spent < limit
    return Double(passes * calls) / (Double(spent) / 1e9)
  }

  /// Calls `body` until the time is over, each time with the present moment.
  static func until(_ seconds: Double, _ body: (UInt64) throws -> Void) rethrows {
    let end = MonotonicTime.nanoseconds + UInt64(seconds * 1e9)
    while true {
      let now = MonotonicTime.nanoseconds
      if now >= end { return }
      try body(now)
    }
  }

  /// The time that `percent` of all do not exceed.
  static func percentile(_ percent: Double, of nanoseconds: [UInt64]) -> Double {
    let sorted = nanoseconds.sorted()
    guard !sorted.isEmpty else { return .nan }
    let place = Int((percent / 100 * Double(sorted.count)).rounded(.up)) - 1
    return Double(sorted[min(max(place, 0), sorted.count - 1)])
  }

  /// The two that every latency here is told by, in microseconds.
  static func p50p99(_ nanoseconds: [UInt64]) -> [Double] {
    [percentile(50, of: nanoseconds) / 1000, percentile(99, of: nanoseconds) / 1000]
  }
}

/// Random numbers that are the same in each run: splitmix64, https://prng.di.unimi.it/splitmix64.c
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
