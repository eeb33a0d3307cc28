// A node on a temporary database, and a client that talks to it over a real socket.

import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import Serving
import Store
import Testing
import WALShip

/// A directory that is removed at the end of a test.
final class TemporaryDirectory {
  let path: String
  init() throws {
    var template = Array("/tmp/edge-serving-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw POSIXError(.EIO) }
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  var database: String { path + "/test.db" }
}

/// A node with a listener.
final class TestNode {
  let directory: TemporaryDirectory
  let writer: DirectWriter
  let node: NodeContext
  let server: LineServer
  let port: Int

  private init(
    _ directory: TemporaryDirectory, _ writer: DirectWriter, _ node: NodeContext,
    _ server: LineServer, _ port: Int
  ) {
    self.directory = directory
    self.writer = writer
    self.node = node
    self.server = server
    self.port = port
  }

  static func start(
    role: NodeRole = .primary, limits: ServingLimits = ServingLimits(),
    contact: @escaping @Sendable () -> UInt64? = { 0 }
  ) async throws -> TestNode {
    let directory = try TemporaryDirectory()
    let writer = try DirectWriter(path: directory.database, limits: limits)
    let tracker = writer.tracker
    let node = NodeContext(
      role: role, databasePath: directory.database, tracker: tracker, logWatch: writer.logWatch,
      primary: writer, limits: limits,
      status: {
        NodeStatus(
          role: role, version: "0", name: "test", position: tracker.position, listen: "here",
          sqliteVersion: SQLiteLibrary.version)
      }, pages: { writer.pages }, contactMilliseconds: contact, logger: Logger(label: "test"))
    let server = LineServer(node: node, group: MultiThreadedEventLoopGroup.singleton)
    let address = try await server.start(host: "127.0.0.1", port: 0)
    return TestNode(directory, writer, node, server, address.port ?? 0)
  }

  func client() throws -> TestClient { try TestClient(port: port) }

  func stop() async {
    await server.stop()
    writer.stop()
  }
}

/// Runs `body` with a node and ends the node afterwards.
func withNode(
  role: NodeRole = .primary, limits: ServingLimits = ServingLimits(),
  contact: @escaping @Sendable () -> UInt64? = { 0 }, _ body: (TestNode) async throws -> Void
) async throws {
  let node = try await TestNode.start(role: role, limits: limits, contact: contact)
  do {
    try await body(node)
  } catch {
    await node.stop()
    throw error
  }
  await node.stop()
}

/// A client that blocks, with a time limit on everything.
final class TestClient: @unchecked Sendable {  // one thread sends, one reads
  private let descriptor: Int32
  private var received: [UInt8] = []

  init(port: Int) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port).bigEndian)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let code = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else { throw POSIXError(.ECONNREFUSED) }
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { Glibc.close(descriptor) }

  func send(_ text: String) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return }
      bytes = bytes.dropFirst(count)
    }
  }

  /// Says that no more requests will come.
  func endInput() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// The next line; nil at the end of the stream, or when nothing comes for 20 seconds.
  func line() -> String? {
    while true {
      if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
        defer { received.removeSubrange(...end) }
        return String(decoding: received[..<end], as: UTF8.self)
      }
      var buffer = [UInt8](repeating: 0, count: 65536)
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count > 0 else { return nil }
      received += buffer[..<count]
    }
  }

  /// Sends a request and reads one line.
  func ask(_ request: String) throws -> JSONValue {
    send(request + "\n")
    return try answer()
  }

  func answer() throws -> JSONValue {
    let line = try #require(self.line())
    return try JSONValue.parse(line)
  }
}

extension JSONValue {
  var errorCode: String? { self["error"]?["code"]?.text }
  var text: String? { if case .string(let text) = self { text } else { nil } }
  var isInTransaction: Bool { self["tx"] == .bool(true) }
  /// The first value of the first row.
  var scalar: JSONValue? { self["rows"]?[0]?[0] }
  var token: Token? { self["token"]?.text.flatMap { Token($0) } }
  var count: Int { if case .array(let elements) = self { elements.count } else { 0 } }
}
