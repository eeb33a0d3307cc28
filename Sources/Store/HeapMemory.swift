// How much memory SQLite may take, and what the C library does with memory that was freed. Where many
// databases come and go, each with threads, it would otherwise keep far more than the idle ones need.
// Sources: https://man7.org/linux/man-pages/man3/mallopt.3.html,
// https://sqlite.org/c3ref/hard_heap_limit64.html

import CMalloc
import CSQLite
import Glibc

/// The heap of this process.
public enum HeapMemory {
  /// Lets threads share so many heaps, so that what one has left is used by the next. By default
  /// there are up to eight for each processor. To be called before there are threads.
  public static func shareHeaps(_ count: Int) {
    _ = mallopt(M_ARENA_MAX, Int32(clamping: count))
  }

  /// Gives what is free back to the system. It takes milliseconds: not on an event loop.
  public static func giveBack() { _ = malloc_trim(0) }

  /// Lets no more than so many bytes be in use by all of SQLite: page caches, sorts, values. A
  /// statement that needs more fails with `SQLITE_NOMEM`, and its transaction is rolled back.
  ///
  /// - Parameter bytes: 0 for no limit.
  public static func limitSQLite(_ bytes: Int) {
    sqlite3_hard_heap_limit64(Int64(clamping: bytes))
  }

  /// Bytes that this process may use at all: those of the machine, or of its control group.
  public static var available: Int {
    let machine = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
    return groups.compactMap(number).reduce(machine, min)
  }

  /// The number in a file of the kernel; nil when there is none.
  private static func number(_ path: String) -> Int? {
    guard let bytes = try? Disk.readPrefix(of: path, count: 32) else { return nil }
    return Int(String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self))
  }
}
