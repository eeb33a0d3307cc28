// The two clocks: one for intervals and time limits, one that is only shown to people.

import Glibc

/// Nanoseconds of the monotonic clock: for every interval and time limit.
public func monotonicNanoseconds() -> UInt64 {
  if let machine = Machine.substitute { return machine.monotonicNanoseconds }
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Microseconds since 1970 by the wall clock: for logs, for people, and for
/// when a credential ends; for no other decision.
public func wallClockMicroseconds() -> UInt64 {
  if let machine = Machine.substitute { return machine.wallClockMicroseconds }
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
}

/// Lets a thread of its own stand still, for less than a second; never an event loop.
public func pauseThread(microseconds: Int) {
  if let machine = Machine.substitute { return machine.pause(microseconds: microseconds) }
  usleep(UInt32(clamping: microseconds))
}

/// Lets other threads have the processor, if any of them waits for one.
public func yieldThread() {
  if Machine.substitute == nil { sched_yield() }
}
