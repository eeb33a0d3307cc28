// Programs that are run to their end.

import Glibc

/// A program on this machine.
public struct Program: Sendable {
  public let path: String

  public struct Result: Sendable {
    public var status: ChildProcess.Status
    public var output: String
    public var error: String
    public var succeeded: Bool { status == .exited(0) }
  }

  public init(path: String) { self.path = path }

  /// The first program of this name in PATH; nil when there is none.
  public init?(named name: String) {
    let directories = getenv("PATH").map { String(cString: $0) } ?? ""
    for directory in directories.split(separator: ":") {
      let candidate = "\(directory)/\(name)"
      guard access(candidate, X_OK) == 0 else { continue }
      self.init(path: candidate)
      return
    }
    return nil
  }

  /// The built `edge-sql`: EDGE_SQL_BINARY, or what lies beside the test bundle.
  public static func edgeSQL() throws -> Program {
    if let given = getenv("EDGE_SQL_BINARY") { return Program(path: String(cString: given)) }
    var candidates = ancestors(of: CommandLine.arguments[0]).map { "\($0)/edge-sql" }
    candidates += ancestors(of: #filePath).map { "\($0)/.build/debug/edge-sql" }
    for candidate in candidates where access(candidate, X_OK) == 0 && !isDirectory(candidate) {
      return Program(path: candidate)
    }
    throw TestFailure("edge-sql is not built: `swift build --product edge-sql`")
  }

  private static func ancestors(of path: String) -> [String] {
    var parts = path.split(separator: "/")
    var result: [String] = []
    while parts.popLast() != nil { result.append("/" + parts.joined(separator: "/")) }
    return result
  }

  private static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Runs the program to its end; it is killed at the deadline.
  public func run(
    _ arguments: [String], input: String = "", directory: String? = nil,
    environment: [String: String] = [:], deadline: Deadline = .seconds(120)
  ) throws -> Result {
    let streams = (try Scratch(input), try Scratch(""), try Scratch(""))
    let child = try ChildProcess(
      path, arguments, directory: directory, environment: environment,
      input: streams.0.descriptor, output: streams.1.descriptor, error: streams.2.descriptor)
    let status = try child.wait(deadline)
    return Result(status: status, output: streams.1.text, error: streams.2.text)
  }
}

/// A file without a name.
private final class Scratch {
  let descriptor: Int32

  init(_ text: String) throws {
    var template = Array("/tmp/edge-sql-test-XXXXXX".utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw TestFailure("no file for the streams of a program") }
    unlink(template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    var text = text
    _ = text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) }
    lseek(descriptor, 0, SEEK_SET)
  }

  deinit { close(descriptor) }

  var text: String {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = pread(descriptor, &chunk, chunk.count, off_t(bytes.count))
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += chunk[..<count]
    }
  }
}
