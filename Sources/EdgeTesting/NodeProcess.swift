// A node as users run it: the built program in a process of its own.

import Glibc
import Serving
import Synchronization

/// `edge-sql primary` or `edge-sql replica`. It keeps its files and its ports when it is started
/// again.
public final class NodeProcess {
  public enum Role: String, Sendable { case primary, replica }

  public let role: Role
  public let directory: TestDirectory
  /// The database file.
  public let database: String
  public var arguments: [String]
  /// A program, and arguments before those of the node, that becomes the node: `prlimit`, a shell.
  public var launcher: [String] = []
  /// What its clients present.
  public var token: String?
  /// How its clients connect; nil for plain text.
  public var transport: (any TransportSecurity)?
  /// Added to the environment of the next start.
  public var environment: [String: String] = [:]
  public private(set) var listenPort = 0
  public private(set) var httpPort = 0
  public private(set) var shipPort = 0
  private let log: String
  private let ships: Bool
  private let speaksHTTP: Bool
  private let host: String
  private var process: ChildProcess?
  private var ready: Int32 = -1
  private var readyText = ""

  /// Starts a node and waits until it is ready.
  ///
  /// - Parameters:
  ///   - database: a file in `directory`, or elsewhere if the path is absolute.
  ///   - arguments: more flags; with `--data` among them, `database` is a folder of many.
  ///   - launcher, environment: see the properties.
  ///   - ships: whether it listens for replicas.
  ///   - speaksHTTP: whether it listens for clients that speak HTTP.
  ///   - host: where it listens; `0.0.0.0` for all interfaces.
  public init(
    _ role: Role, in directory: TestDirectory, database: String, arguments: [String] = [],
    launcher: [String] = [], environment: [String: String] = [:], ships: Bool = true,
    speaksHTTP: Bool = false, host: String = "127.0.0.1", waits: Bool = true
  ) throws {
    self.launcher = launcher
    self.environment = environment
    self.role = role
    self.directory = directory
    self.database = database.hasPrefix("/") ? database : directory.file(database)
    self.arguments = arguments
    self.ships = ships
    self.speaksHTTP = speaksHTTP
    self.host = host
    log = self.database + ".log"
    try start(waits: waits)
  }

  deinit {
    process?.kill()
    if ready >= 0 { close(ready) }
  }

  // MARK: Life

  public func start(waits: Bool = true) throws {
    precondition(process == nil, "the node runs already")
    try launch()
    if waits { try waitUntilReady() }
  }

  /// Once this returns, only the node has the writing end of the pipe: it closes when the node
  /// ends.
  private func launch() throws {
    let all =
      [
        role.rawValue, arguments.contains("--data") ? "--data" : "--db", database, "--listen",
        "\(host):\(listenPort)",
        "--http", speaksHTTP ? "\(host):\(httpPort)" : "off",
        "--ship", ships ? "\(host):\(shipPort)" : "off", "--log-format", "text",
      ] + arguments.filter { $0 != "--data" }
    let errors = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o644)
    let nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)
    guard errors >= 0, nothing >= 0 else { throw TestFailure("no descriptors for a node") }
    let ends = try Socket.pipe()
    defer { for descriptor in [errors, nothing, ends.write] { close(descriptor) } }
    if ready >= 0 { close(ready) }
    ready = ends.read
    readyText = ""
    let command = launcher + [try Program.edgeSQL().path] + all
    process = try ChildProcess(
      command[0], Array(command.dropFirst()), directory: directory.path, environment: environment,
      input: nothing, output: ends.write, error: errors)
  }

  public func waitUntilReady(_ deadline: Deadline = .seconds(60)) throws {
    var bytes = [UInt8](repeating: 0, count: 4096)
    while !readyText.contains("\n") {
      guard Socket.wait(ready, POLLIN, deadline) else {
        throw TestFailure("the node did not become ready:\n\(errorText)")
      }
      let count = read(ready, &bytes, bytes.count)
      guard count > 0 else {
        let status = try process?.wait().description ?? "it does not run"
        throw TestFailure("the node ended before it was ready (\(status)):\n\(errorText)")
      }
      readyText += String(decoding: bytes[..<count], as: UTF8.self)
    }
    guard readyText.hasPrefix("ready: ") else { throw TestFailure("no ready line: \(readyText)") }
    listenPort = Self.port(after: "clients on ", in: readyText) ?? listenPort
    httpPort = Self.port(after: "HTTP on ", in: readyText) ?? httpPort
    shipPort = Self.port(after: "replicas on ", in: readyText) ?? shipPort
  }

  private static func port(after words: String, in text: String) -> Int? {
    guard let range = text.firstRange(of: words) else { return nil }
    let address = text[range.upperBound...].prefix { $0 != "," && $0 != "\n" }
    return address.split(separator: ":").last.flatMap { Int($0) }
  }

  public var pid: pid_t { process?.pid ?? 0 }
  public var isRunning: Bool { process?.isRunning ?? false }
  /// How the process ended; nil while it runs.
  public var status: ChildProcess.Status? { process?.poll() }

  /// kill -9.
  public func kill() {
    process?.kill()
    process = nil
  }

  /// SIGTERM, and the status with which the node ends.
  @discardableResult
  public func terminate(_ deadline: Deadline = .seconds(30)) throws -> ChildProcess.Status {
    guard let process else { throw TestFailure("the node does not run") }
    process.signal(SIGTERM)
    let status = try process.wait(deadline)
    self.process = nil
    return status
  }

  /// Any signal.
  public func signal(_ number: Int32) { process?.signal(number) }

  public func suspend() { process?.signal(SIGSTOP) }
  public func resume() { process?.signal(SIGCONT) }

  public func memoryBytes(_ name: String = "VmHWM") -> Int { process?.memoryBytes(name) ?? 0 }

  /// How many descriptors the node has open.
  public var openFiles: Int { Files.names(in: "/proc/\(pid)/fd").count }

  /// Everything that was logged, by all runs.
  public var errorText: String { Files.text(log) }

  // MARK: Clients

  public func connect(receiveBytes: Int32? = nil) throws -> LineConnection {
    let connection = try LineConnection(
      port: listenPort, receiveBytes: receiveBytes, transport: transport)
    if let token {
      let answer = try connection.authenticate(token)
      if let code = answer.error { throw TestFailure("\(code): \(answer.message)") }
    }
    return connection
  }

  /// The answer to `.status`.
  public func report() throws -> JSONValue { try connect().request(".status").json }

  public func txid() throws -> Int64 {
    guard let number = try report()["txid"]?.integer else { throw TestFailure("no txid in status") }
    return number
  }

  /// The same, once the node has numbered what other programs committed to its file until now: they
  /// are told of it a moment before it is. An answer has the number of all that it shows.
  public func capturedTXID() throws -> Int64 {
    _ = try connect().request("SELECT count(*) FROM sqlite_schema")
    return try txid()
  }
}
