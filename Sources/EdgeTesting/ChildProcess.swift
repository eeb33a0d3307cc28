// Programs that tests start. None outlives the test process: what still runs is killed by its pid.

import Glibc
import Synchronization

/// A started program. It is killed when nobody holds it any more.
public final class ChildProcess: Sendable {
  public enum Status: Equatable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)

    init(_ raw: Int32) {
      self = raw & 0x7f == 0 ? .exited(raw >> 8 & 0xff) : .signalled(raw & 0x7f)
    }

    public var description: String {
      switch self {
      case .exited(let code): "exit code \(code)"
      case .signalled(let number): "signal \(number)"
      }
    }
  }

  public let pid: pid_t
  private let status = Mutex<Status?>(nil)
  private static let running = Mutex<Set<pid_t>>([])
  private static let killsAtExit: Void = {
    atexit { ChildProcess.killAll() }
    return ()
  }()

  /// Starts a program. Descriptors other than the three given are not passed on.
  ///
  /// - Parameter environment: added to that of the tests; the variables of edge-sql itself are left
  ///   out.
  public init(
    _ executable: String, _ arguments: [String], directory: String? = nil,
    environment: [String: String] = [:], input: Int32, output: Int32, error: Int32
  ) throws {
    _ = Self.killsAtExit
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, descriptor) in [input, output, error].enumerated() {
      posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number))
    }
    try SpawnExtensions.closeFrom(&actions, 3)
    if let directory { try SpawnExtensions.changeDirectory(&actions, directory) }
    var child: pid_t = 0
    let code = Self.withStrings([executable] + arguments) { argv in
      Self.withStrings(Self.environment(adding: environment)) { envp in
        posix_spawn(&child, executable, &actions, nil, argv, envp)
      }
    }
    guard code == 0 else {
      throw TestFailure("\(executable) cannot be started: \(String(cString: strerror(code)))")
    }
    pid = child
    Self.running.withLock { _ = $0.insert(child) }
  }

  deinit { kill() }

  // MARK: Ending

  public var isRunning: Bool { poll() == nil }

  /// How the program ended; nil while it runs.
  public func poll() -> Status? {
    status.withLock { status in
      if let status { return status }
      var raw: Int32 = 0
      guard waitpid(pid, &raw, WNOHANG) == pid else { return nil }
      status = Status(raw)
      Self.running.withLock { _ = $0.remove(pid) }
      return status
    }
  }

  public func wait(_ deadline: Deadline = .seconds(60)) throws -> Status {
    try eventually("the end of process \(pid)", deadline: deadline) { poll() != nil }
    return poll() ?? .exited(0)
  }

  /// Sends a signal, if the program still runs.
  public func signal(_ number: Int32) {
    if poll() == nil { _ = Glibc.kill(pid, number) }
  }

  /// Kills the program and waits until it is gone.
  public func kill() {
    signal(SIGKILL)
    _ = try? wait()
  }

  private static func killAll() {
    for pid in running.withLock({ $0 }) { _ = Glibc.kill(pid, SIGKILL) }
  }

  // MARK: Memory

  /// A line of /proc/PID/status in bytes: VmRSS now, VmHWM the highest so far.
  public func memoryBytes(_ name: String) -> Int {
    for line in Files.text("/proc/\(pid)/status").split(separator: "\n") where line.hasPrefix(name)
    {
      return line.split(separator: " ").compactMap { Int($0) }.first.map { $0 * 1024 } ?? 0
    }
    return 0
  }

  // MARK: Arguments

  private static func environment(adding more: [String: String]) -> [String] {
    var result: [String] = []
    var entry = environ
    while let text = entry.pointee {
      let variable = String(cString: text)
      if !variable.hasPrefix("EDGE_SQL_") { result.append(variable) }
      entry += 1
    }
    return result + more.map { "\($0.key)=\($0.value)" }
  }

  private static func withStrings<R>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R
  ) -> R {
    let pointers = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers + [nil])
  }
}

/// What glibc's spawn.h hides from programs that are not compiled with _GNU_SOURCE.
private enum SpawnExtensions {
  typealias Actions = UnsafeMutablePointer<posix_spawn_file_actions_t>

  static func closeFrom(_ actions: Actions, _ first: Int32) throws {
    let function = try symbol("posix_spawn_file_actions_addclosefrom_np")
    _ = unsafeBitCast(function, to: (@convention(c) (Actions, Int32) -> Int32).self)(actions, first)
  }

  static func changeDirectory(_ actions: Actions, _ path: String) throws {
    let function = try symbol("posix_spawn_file_actions_addchdir_np")
    typealias Function = @convention(c) (Actions, UnsafePointer<CChar>) -> Int32
    _ = unsafeBitCast(function, to: Function.self)(actions, path)
  }

  private static func symbol(_ name: String) throws -> UnsafeMutableRawPointer {
    guard let symbol = dlsym(nil, name) else { throw TestFailure("this C library has no \(name)") }
    return symbol
  }
}
