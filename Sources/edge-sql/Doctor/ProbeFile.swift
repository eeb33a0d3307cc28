// A file of the doctor's own, opened twice, on which it tries what SQLite does to databases.

import Glibc

final class ProbeFile {
  enum LockKind { case process, openFile }

  let first: Int32
  let second: Int32

  /// Creates the file and takes its name away at once, so that nothing is left behind.
  init(directory: String) throws(BadValue) {
    let path = "\(directory)/.edge-sql-doctor-\(getpid())"
    let created = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard created >= 0 else { throw BadValue(errorText(errno)) }
    let opened = open(path, O_RDWR | O_CLOEXEC)
    let code = errno
    unlink(path)
    guard opened >= 0 else {
      close(created)
      throw BadValue(errorText(code))
    }
    first = created
    second = opened
  }

  deinit {
    close(first)
    close(second)
  }

  /// Tries to lock one byte for writing, where SQLite has its locks.
  ///
  /// Source: fcntl(2) and https://www.sqlite.org/fileformat2.html#the_lock_byte_page
  /// - Returns: 0 when the lock was given.
  func lock(_ descriptor: Int32, kind: LockKind) -> Int32 {
    var request = flock()
    request.l_type = Int16(F_WRLCK)
    request.l_whence = Int16(SEEK_SET)
    request.l_start = 0x4000_0000
    request.l_len = 1
    // F_OFD_SETLK, which glibc's module does not export.
    return fcntl(descriptor, kind == .openFile ? 37 : F_SETLK, &request)
  }

  /// Whether what is written through one mapping is read through another.
  func isMemoryShared() -> Bool {
    let size = 32768
    guard ftruncate(first, size) == 0 else { return false }
    let protection = PROT_READ | PROT_WRITE
    guard let writer = mmap(nil, size, protection, MAP_SHARED, first, 0), writer != MAP_FAILED
    else { return false }
    defer { munmap(writer, size) }
    guard let reader = mmap(nil, size, protection, MAP_SHARED, second, 0), reader != MAP_FAILED
    else { return false }
    defer { munmap(reader, size) }
    writer.storeBytes(of: 0x5151_e3e3, toByteOffset: 16384, as: UInt32.self)
    return reader.load(fromByteOffset: 16384, as: UInt32.self) == 0x5151_e3e3
  }

  /// The times of writing 4 KiB at the end of the file and syncing it; empty when that fails.
  func syncNanoseconds(count: Int) -> [UInt64] {
    let page = [UInt8](repeating: 0xa5, count: 4096)
    var times: [UInt64] = []
    for index in 0..<count {
      let start = MonotonicClock.nowNanoseconds
      guard pwrite(first, page, page.count, 65536 + index * page.count) == page.count,
        fdatasync(first) == 0
      else { return [] }
      times.append(MonotonicClock.nowNanoseconds - start)
    }
    return times
  }
}
