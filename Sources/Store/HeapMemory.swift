// What the C library does with memory that was freed. Where many databases come and go, each with
// threads, it would otherwise keep far more than the idle ones need.
// Source: https://man7.org/linux/man-pages/man3/mallopt.3.html

import CMalloc

/// The heap of this process.
public enum HeapMemory {
  /// Lets threads share so many heaps, so that what one has left is used by the next. By default
  /// there are up to eight for each processor. To be called before there are threads.
  public static func shareHeaps(_ count: Int) {
    _ = mallopt(M_ARENA_MAX, Int32(clamping: count))
  }

  /// Gives what is free back to the system. It takes milliseconds: not on an event loop.
  public static func giveBack() { _ = malloc_trim(0) }
}
