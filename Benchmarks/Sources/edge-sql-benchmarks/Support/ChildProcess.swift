// Programs that run beside the benchmarks, so that what they use can be told from what the client uses. None outlives the
// run: those that are left are killed by their pids when it ends.

import CLoad
import Glibc
import Store
import Synchronization

/// A started program. It is ended when nobody holds it any more.
final class ChildProcess: @unchecked Sendable {  // Safe: `received` is the starting thread's alone.
  let pid: pid_t
  private let output: Int32
  private var received: [UInt8] = []
  private static let running = Mutex<Set<pid_t>>([])

  /// - Parameter log: a file for what it writes to standard error.
  init(_ program: String, _ arguments: [String], log: String) throws {
    var pipes: [Int32] = [-1, -1]
    guard pipe(&pipes) == 0 else { throw Failure("no pipe") }
    for end in pipes { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let errors = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
    defer {
      close(pipes[1])
      close(errors)
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1)
    posix_spawn_file_actions_adddup2(&actions, errors, 2)
    var strings = ([program] + arguments).map { strdup($0) } + [nil]
    defer { for string in strings { free(string) } }
    var child: pid_t = 0
    let code = posix_spawn(&child, program, &actions, nil, &strings, environ)
    guard code == 0 else {
      close(pipes[0])
      throw Failure("\(program) cannot be started: \(String(cString: strerror(code)))")
    }
    pid = child
    output = pipes[0]
    Self.running.withLock { _ = $0.insert(child) }
  }

  deinit {
    stop()
    close(output)
  }

  /// Waits for a line that begins with `prefix`.
  func line(_ prefix: String, seconds: Double = 30) throws -> String {
    let end = MonotonicTime.seconds + seconds
    while true {
      if let line = takeLine() {
        if line.hasPrefix(prefix) { return line }
        continue
      }
      var request = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
      let left = max(0, end - MonotonicTime.seconds)
      guard poll(&request, 1, Int32(left * 1000)) > 0 else {
        throw Failure("process \(pid) did not say “\(prefix)” within \(seconds) s")
      }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let count = read(output, &chunk, chunk.count)
      guard count > 0 else { throw Failure("process \(pid) ended before it said “\(prefix)”") }
      received += chunk[..<count]
    }
  }

  private func takeLine() -> String? {
    guard let end = received.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
    defer { received.removeSubrange(...end) }
    return String(decoding: received[..<end], as: UTF8.self)
  }

  /// All the CPU time that it has used.
  var cpuSeconds: Double { Double(load_process_cpu(pid)) / 1e9 }

  /// Memory in bytes that it has written to, which is all but what it shares with files.
  var anonymousBytes: Double { memory("RssAnon:") }
  /// Memory in bytes, pages of mapped files included.
  var residentBytes: Double { memory("VmRSS:") }

  /// The most that it ever had.
  var peakBytes: Double { memory("VmHWM:") }

  private func memory(_ name: String) -> Double {
    for line in SmallFile.text("/proc/\(pid)/status").split(separator: "\n")
    where line.hasPrefix(name) {
      let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      return fields.count > 1 ? (Double(fields[1]) ?? .nan) * 1024 : .nan
    }
    return .nan
  }

  /// Ends it as an operator would, and by force if that takes longer than 10 s.
  func stop() {
    guard Self.running.withLock({ $0.remove(pid) }) != nil else { return }
    kill(pid, SIGTERM)
    for _ in 0..<10_000 {
      if waitpid(pid, nil, WNOHANG) != 0 { return }
      usleep(1000)
    }
    kill(pid, SIGKILL)
    waitpid(pid, nil, 0)
  }

  /// Waits until it has ended by itself, without an error.
  func waitForEnd(seconds: Double) throws {
    let end = MonotonicTime.seconds + seconds
    var status: Int32 = 0
    while waitpid(pid, &status, WNOHANG) == 0 {
      guard MonotonicTime.seconds < end else { throw Failure("process \(pid) does not end") }
      usleep(1000)
    }
    Self.running.withLock { _ = $0.remove(pid) }
    guard status == 0 else { throw Failure("process \(pid) ended with status \(status)") }
  }

  /// Ends it as a crash does.
  func kill9() {
    guard Self.running.withLock({ $0.remove(pid) }) != nil else { return }
    kill(pid, SIGKILL)
    waitpid(pid, nil, 0)
  }

  /// For the end of a run that was interrupted.
  static func killAll() {
    for pid in running.withLock({ $0 }) { kill(pid, SIGKILL) }
  }
}

/// The clock that every time here is taken from.
enum MonotonicTime {
  static var nanoseconds: UInt64 { monotonicNanoseconds() }
  static var seconds: Double { Double(nanoseconds) / 1e9 }
}

/// Files of the system that say something in text, and what `stat` tells.
enum SmallFile {
  static func size(_ path: String) throws -> Int {
    var status = stat()
    guard stat(path, &status) == 0 else { throw Failure("\(path) is not there") }
    return Int(status.st_size)
  }

  /// Of all files in that folder; 0 when there is none.
  static func bytes(below folder: String) throws -> Int {
    guard let entries = opendir(folder) else { return 0 }
    defer { closedir(entries) }
    var total = 0
    while let entry = readdir(entries) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      // One that is gone by now was merged or renamed.
      if !name.hasPrefix(".") { total += (try? size("\(folder)/\(name)")) ?? 0 }
    }
    return total
  }

  static func write(_ text: String, to path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw Failure("\(path) cannot be written")
    }
  }

  static func text(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
  }
}
