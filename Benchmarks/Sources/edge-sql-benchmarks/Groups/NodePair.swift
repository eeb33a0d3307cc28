// A primary with the usual table and a replica that follows it, for what is measured between the two.

import Glibc
import Primary
import Replica
import Store
import WALShip

/// Both nodes, in this process.
final class NodePair {
  /// Nil while it is stopped, as the replica: a service that is held keeps its database open.
  private var primaryService: PrimaryService?
  let primaryPath: String
  private let replicaPath: String
  private var replica: ReplicaService?

  private init(_ primaryPath: String, _ replicaPath: String) {
    self.primaryPath = primaryPath
    self.replicaPath = replicaPath
  }

  /// Calls `body` with nodes that hold the same, and stops them whatever happens.
  static func with<T>(_ folder: WorkFolder, _ body: (NodePair) async throws -> T) async throws -> T
  {
    let pair = NodePair(try folder.makeTable(), folder.newPath())
    do {
      try await pair.startPrimary()
      try await pair.startReplica()
      try await pair.replica?.waitUntilReady()
      try pair.waitUntilEqual()
      let result = try await body(pair)
      await pair.stop()
      return result
    } catch {
      await pair.stop()
      throw error
    }
  }

  private func stop() async {
    await stopReplica()
    await stopPrimary()
  }

  var primary: PrimaryService {
    guard let primaryService else { preconditionFailure("the primary is stopped") }
    return primaryService
  }

  func startPrimary() async throws {
    primaryService = try await Nodes.primary(primaryPath, ships: true)
  }

  func stopPrimary() async {
    await primaryService?.stop()
    primaryService = nil
  }

  /// Starts the replica again; it may not have caught up yet.
  func startReplica() async throws {
    replica = try await Nodes.replica(of: primary, path: replicaPath)
  }

  func stopReplica() async {
    await replica?.stop()
    replica = nil
  }

  func waitUntilEqual() throws {
    guard let replica else { throw Failure("the replica is stopped") }
    try Nodes.waitUntilEqual(primary, replica)
  }

  func primaryClient() throws -> ClientSocket {
    try ClientSocket(port: primary.listenAddress?.port ?? 0)
  }
  func replicaClient() throws -> ClientSocket {
    try ClientSocket(port: replica?.listenAddress?.port ?? 0)
  }

  /// Bytes that the primary has sent over the present connection of its replica, once all of them have arrived.
  func bytesSent() throws -> Int {
    let start = monotonicNanoseconds()
    while monotonicNanoseconds() - start < 10_000_000_000 {
      let status = primary.status
      if status.replicas.count == 1, status.replicas[0].txid == status.position.txid {
        return Int(status.replicas[0].bytesSent)
      }
      usleep(1000)
    }
    throw Failure("the primary does not know of a replica that has everything")
  }

  /// An UPDATE of one row anywhere in the table to 100 random bytes, as a request.
  static func updateLine(_ random: inout SeededGenerator) -> String {
    let bytes = SamplePages.noise(&random, 100)
    let id = UInt32.random(in: 1...WorkFolder.rows, using: &random)
    let value = "{\"b64\":\"\(Base64Text.of(bytes))\"}"
    return "[\"UPDATE t SET v = ? WHERE id = ?\",\(value),\(id)]"
  }
}

/// Requests that may be sent again and again.
enum WriteLines {
  /// UPDATEs of one row anywhere in the table, to 100 random bytes that are new each time: SQLite writes no page for a row
  /// that stays as it was.
  static func updates() -> [String] {
    var random = SeededGenerator(seed: 21)
    return (0..<4096).map { _ in
      let id = UInt32.random(in: 1...WorkFolder.rows, using: &random)
      return "[\"UPDATE t SET v = randomblob(100) WHERE id = ?\",\(id)]\n"
    }
  }

  /// INSERTs of 100 random bytes.
  static func inserts() -> [String] {
    var random = SeededGenerator(seed: 9)
    return (0..<2048).map { _ in
      let value = "{\"b64\":\"\(Base64Text.of(SamplePages.noise(&random, 100)))\"}"
      return "[\"INSERT INTO t(v) VALUES (?)\",\(value)]\n"
    }
  }
}

/// Base64, for blobs in requests: https://www.rfc-editor.org/rfc/rfc4648#section-4
enum Base64Text {
  private static let digits = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func of(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let piece = bytes[start..<min(start + 3, bytes.count)]
      let bits = piece.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - piece.count))
      for digit in 0..<piece.count + 1 { text.append(digits[bits >> (18 - 6 * digit) & 63]) }
      for _ in piece.count..<3 { text.append(UInt8(ascii: "=")) }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
