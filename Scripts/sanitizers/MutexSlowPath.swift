// Linked into what `make tsan` builds, in place of a function of the standard library.
//
// A Mutex that is contended waits in the kernel, which then takes the lock in the name of the
// thread (FUTEX_LOCK_PI). ThreadSanitizer sees neither the kernel nor the library, so that to it
// the critical section before and the one after have nothing to do with each other, and everything
// that a contended Mutex guards looks like a race. This one takes the lock with an atomic operation
// that the sanitizer sees; no waiter is ever known to the kernel, so unlocking stays on the fast
// path, which is compiled into the caller and seen as well.
//
// Source: stdlib/public/Synchronization/Mutex/LinuxImpl.swift of Swift 6

import Glibc
import Synchronization

/// What `Synchronization._MutexHandle` is in memory.
struct MutexHandle: ~Copyable {
  let storage: Atomic<UInt32>

  @_silgen_name("$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF")
  borrowing func lockSlow(_ thread: UInt32) {
    while true {
      let taken = storage.compareExchange(
        expected: 0, desired: thread, successOrdering: .acquiring, failureOrdering: .relaxed)
      if taken.exchanged { return }
      usleep(20)
    }
  }
}
