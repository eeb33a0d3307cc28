// What the engine takes from its machine apart from files: threads, clocks and the run of the
// system. A simulation puts a machine of its own in place, and then a whole cluster runs in one
// thread, step by step, as a seed says. Random numbers have `Chance`.

import WALShip

/// A machine that is not there.
package protocol MachineSubstitute: Sendable {
  var monotonicNanoseconds: UInt64 { get }
  var wallClockMicroseconds: UInt64 { get }
  /// The caller has nothing to do for so long.
  func pause(microseconds: Int)
  /// The caller can go on when `isDone`; others must run meanwhile.
  func wait(milliseconds: Int, isDone: () -> Bool)
  /// A thread has jobs, for `runJob`.
  func hasJobs(_ thread: DatabaseThread)
  /// Which run of the system the file at `path` lives in: 16 bytes.
  func bootID(of path: String) -> [UInt8]
  /// What the file system calls the file at `path`.
  func fileNumber(of path: String) -> UInt64
}

/// The machine that this process runs on.
package enum Machine {
  /// Set once, before anything else runs, by a process that simulates.
  nonisolated(unsafe) package static var substitute: (any MachineSubstitute)?  // set first
}
