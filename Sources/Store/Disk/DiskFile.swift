// A file that the engine itself reads and writes: the WAL, the page map, a copy in progress.
// Every call names its operation, so that errors say what failed and tests can make it fail.

import CSQLite
import Glibc
import Synchronization

/// What the engine was doing with a file.
public enum DiskOperation: String, Sendable, CaseIterable {
  case openLog, readLog, writeLog, syncLog, truncateLog
  case openPageMap, growPageMap, syncPageMap, mapPageMap
  case openCopy, writeCopy, readCopy, syncCopy, truncateCopy, renameCopy, syncDirectory, removeFile
  case readFile
}

/// A failed call to the operating system.
public struct DiskError: Error, Equatable, Sendable, CustomStringConvertible {
  public var operation: DiskOperation
  public var errorNumber: Int32
  public var path: String
  public var isDiskFull: Bool { errorNumber == ENOSPC || errorNumber == EDQUOT }
  public var description: String {
    "\(operation.rawValue) failed on \(path): \(Self.text(errorNumber))"
  }

  /// The system's words for an `errno`.
  public static func text(_ number: Int32) -> String { String(cString: strerror(number)) }
}

/// Lets tests fail chosen disk operations of this process.
public enum DiskFaults {
  /// Is asked before each operation on a path; a number other than zero is taken as its `errno`.
  public typealias Injection = @Sendable (DiskOperation, String) -> Int32

  /// Tells how many bytes a single call to the system may move, as on a disk that is nearly full.
  public typealias Limit = @Sendable (DiskOperation, String) -> Int

  /// A bare function in a `Mutex` would be wrapped once more with each use.
  private struct Hook: Sendable {
    var injection: Injection
    var limit: Limit
  }
  private static let hook = Mutex<Hook?>(nil)
  private static let isArmed = Atomic<Bool>(false)

  /// From now on, asks `injection`; nil ends it. Tests that run side by side tell themselves apart
  /// by their paths.
  public static func install(_ injection: Injection?, limit: @escaping Limit = { _, _ in .max }) {
    hook.withLock { $0 = injection.map { Hook(injection: $0, limit: limit) } }
    isArmed.store(injection != nil, ordering: .releasing)
  }

  static func check(_ operation: DiskOperation, _ path: String) throws(DiskError) {
    guard isArmed.load(ordering: .acquiring), let hook = hook.withLock({ $0 }) else { return }
    let number = hook.injection(operation, path)
    if number != 0 { throw DiskError(operation: operation, errorNumber: number, path: path) }
  }

  static func limit(_ operation: DiskOperation, _ path: String) -> Int {
    guard isArmed.load(ordering: .acquiring) else { return .max }
    return hook.withLock { $0 }?.limit(operation, path) ?? .max
  }
}

/// An open file. Reads and writes are complete or fail; EINTR and short transfers are dealt with
/// here.
public final class DiskFile: Sendable {
  public enum Mode: Sendable { case readOnly, readWrite, create }

  public let path: String
  let descriptor: Int32

  public init(path: String, mode: Mode, operation: DiskOperation) throws(DiskError) {
    try DiskFaults.check(operation, path)
    let flags =
      switch mode {
      case .readOnly: O_RDONLY
      case .readWrite: O_RDWR
      case .create: O_RDWR | O_CREAT
      }
    let descriptor = open(path, flags | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw DiskError(operation: operation, errorNumber: errno, path: path)
    }
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Reads up to `buffer.count` bytes; fewer only at the end of the file.
  public func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ operation: DiskOperation
  ) throws(DiskError) -> Int {
    try DiskFaults.check(operation, path)
    let most = DiskFaults.limit(operation, path)
    var done = 0
    while done < buffer.count {
      let count = pread(
        descriptor, buffer.baseAddress.map { $0 + done }, min(most, buffer.count - done),
        off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw DiskError(operation: operation, errorNumber: errno, path: path)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  public func write(
    _ buffer: UnsafeRawBufferPointer, at offset: Int, _ operation: DiskOperation
  ) throws(DiskError) {
    try DiskFaults.check(operation, path)
    let most = DiskFaults.limit(operation, path)
    var done = 0
    while done < buffer.count {
      let count = pwrite(
        descriptor, buffer.baseAddress.map { $0 + done }, min(most, buffer.count - done),
        off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw DiskError(operation: operation, errorNumber: errno, path: path)
      }
      done += count
    }
  }

  /// Makes the bytes durable. A failure is final: the bytes may be lost, and a second try would not
  /// say so.
  ///
  /// Source: https://wiki.postgresql.org/wiki/Fsync_Errors
  public func sync(_ operation: DiskOperation) throws(DiskError) {
    try DiskFaults.check(operation, path)
    guard fdatasync(descriptor) == 0 else {
      throw DiskError(operation: operation, errorNumber: errno, path: path)
    }
  }

  /// Lets the kernel begin to write what is not on the disk yet, so that `sync` finds less to do.
  /// It promises nothing.
  ///
  /// Source: https://man7.org/linux/man-pages/man2/sync_file_range.2.html
  func beginWriteback() { _ = edge_begin_writeback(descriptor) }

  public func truncate(to size: Int, _ operation: DiskOperation) throws(DiskError) {
    try DiskFaults.check(operation, path)
    guard ftruncate(descriptor, off_t(size)) == 0 else {
      throw DiskError(operation: operation, errorNumber: errno, path: path)
    }
  }

  /// Reserves the blocks, so that later writes through a mapping cannot fail.
  func allocate(size: Int, _ operation: DiskOperation) throws(DiskError) {
    try DiskFaults.check(operation, path)
    let number = posix_fallocate(descriptor, 0, off_t(size))
    guard number == 0 else {
      throw DiskError(operation: operation, errorNumber: number, path: path)
    }
  }

  /// Takes the file for this process alone, as long as it is open here.
  ///
  /// - Returns: false when another process has it, or has given it another name meanwhile.
  func lock() -> Bool {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return false }
    var here = stat()
    var named = stat()
    guard fstat(descriptor, &here) == 0, stat(path, &named) == 0 else { return false }
    return here.st_ino == named.st_ino && here.st_dev == named.st_dev
  }

  /// Gives it back.
  func unlock() { _ = flock(descriptor, LOCK_UN) }

  public var size: Int {
    var info = stat()
    return fstat(descriptor, &info) == 0 ? Int(info.st_size) : 0
  }
}

/// What the engine does with whole files.
public enum Disk {
  public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  public static func size(_ path: String) -> Int? {
    var info = stat()
    return stat(path, &info) == 0 ? Int(info.st_size) : nil
  }

  public static func rename(_ from: String, to: String) throws(DiskError) {
    try DiskFaults.check(.renameCopy, from)
    guard Glibc.rename(from, to) == 0 else {
      throw DiskError(operation: .renameCopy, errorNumber: errno, path: from)
    }
    try syncDirectory(of: to)
  }

  /// Removes a file if it is there.
  public static func remove(_ path: String) throws(DiskError) {
    try DiskFaults.check(.removeFile, path)
    guard unlink(path) == 0 || errno == ENOENT else {
      throw DiskError(operation: .removeFile, errorNumber: errno, path: path)
    }
  }

  /// Makes names in the folder of `path` durable.
  public static func syncDirectory(of path: String) throws(DiskError) {
    try DiskFaults.check(.syncDirectory, path)
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    let descriptor = open(folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw DiskError(operation: .syncDirectory, errorNumber: errno, path: folder)
    }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 || errno == EINVAL else {
      throw DiskError(operation: .syncDirectory, errorNumber: errno, path: folder)
    }
  }

  /// The first bytes of a file that no connection of this process has open.
  public static func readPrefix(of path: String, count: Int) throws(DiskError) -> [UInt8] {
    let file = try DiskFile(path: path, mode: .readOnly, operation: .readFile)
    var bytes = [UInt8](repeating: 0, count: count)
    let result: Result<Int, DiskError> = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(DiskError) -> Int in try file.read(into: buffer, at: 0, .readFile) }
    }
    bytes.removeLast(count - (try result.get()))
    return bytes
  }
}

extension Disk {
  /// - Throws: `SQLITE_CANTOPEN` when the folder that `path` is to lie in is missing, or may not be
  ///   written.
  public static func requireFolder(of path: String) throws(SQLiteError) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    guard access(folder, W_OK | X_OK) == 0 else {
      let reason = String(cString: strerror(errno))
      throw SQLiteError(
        code: SQLiteError.cannotOpen, message: "no file can be made here: \(reason)")
    }
  }

  /// Whether `path` is a file, and not a folder or a device.
  public static func isRegularFile(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
  }

  /// A process that holds a lock on a file, as SQLite does on each database that it has open in
  /// WAL mode. This process must not have it open itself.
  ///
  /// - Returns: nil when there is none, or it cannot be known.
  public static func lockHolder(of path: String) -> Int32? {
    guard let file = try? DiskFile(path: path, mode: .readWrite, operation: .readFile) else {
      return nil
    }
    var lock = flock()
    lock.l_type = Int16(F_WRLCK)
    lock.l_whence = Int16(SEEK_SET)
    guard fcntl(file.descriptor, F_GETLK, &lock) == 0, lock.l_type != Int16(F_UNLCK) else {
      return nil
    }
    return lock.l_pid
  }

  /// The permission bits of a file.
  public static func permissions(_ path: String) -> UInt32? {
    var info = stat()
    return stat(path, &info) == 0 ? UInt32(info.st_mode & 0o7777) : nil
  }
}

extension Disk {
  /// Puts a small file in the place of another one, readable by its owner alone.
  public static func replace(_ path: String, with bytes: [UInt8]) throws(DiskError) {
    let temporary = "\(path).\(getpid())"
    try DiskFaults.check(.openCopy, temporary)
    let flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC
    let descriptor = open(temporary, flags, 0o600)
    guard descriptor >= 0 else {
      throw DiskError(operation: .openCopy, errorNumber: errno, path: temporary)
    }
    do throws(DiskError) {
      defer { close(descriptor) }
      try DiskFaults.check(.writeCopy, temporary)
      guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
        throw DiskError(operation: .writeCopy, errorNumber: errno, path: temporary)
      }
      try DiskFaults.check(.syncCopy, temporary)
      guard fsync(descriptor) == 0 else {
        throw DiskError(operation: .syncCopy, errorNumber: errno, path: temporary)
      }
    } catch {
      unlink(temporary)
      throw error
    }
    try rename(temporary, to: path)
  }
}
