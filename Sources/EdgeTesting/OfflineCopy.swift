// An embedded copy that is written to while it is offline, by SQLite itself, and pushed as Turso's
// libraries do: `libsql/src/sync.rs`. It only pushes; pulls are for `EmbeddedCopy`.

import Serving
import Store

/// A copy in a file. It belongs to one thread.
public final class OfflineCopy {
  public let generation: UInt32
  public let connection: Connection
  private let path: String
  /// Frames that the copy had when it went offline: its own come behind them.
  private let before: Int
  /// The last frame that the node has, as the library believes.
  public var durable: Int
  /// What goes into each request.
  public var headers: [String] = []

  private static let frameBytes = 4120
  private static let framesPerRequest = 128

  /// - Parameter name: of a file that is not there yet.
  public init(_ copy: EmbeddedCopy, in directory: TestDirectory, _ name: String) throws {
    path = try directory.write(name, copy.bytes)
    generation = copy.generation
    before = copy.frame
    durable = copy.frame
    headers = copy.headers
    connection = try Connection(path: path, mode: .readWrite)
    try connection.execute("PRAGMA wal_autocheckpoint=0")
  }

  public func write(_ sql: String) throws {
    try connection.allowingVacuum { () throws(SQLiteError) in try connection.execute(sql) }
  }

  /// The frames that were written here.
  public var frames: [UInt8] {
    get throws { Array(try Files.read(path + "-wal").dropFirst(32)) }
  }
  /// The number of the last one.
  public var last: Int { get throws { before + (try frames.count) / Self.frameBytes } }

  /// The bytes of some frames, by their numbers.
  public func bytes(_ range: ClosedRange<Int>) throws -> [UInt8] {
    let start = (range.lowerBound - before - 1) * Self.frameBytes
    return Array(try frames[start..<start + range.count * Self.frameBytes])
  }

  /// One request.
  public func post(
    _ range: ClosedRange<Int>, baton: String? = nil, bytes: [UInt8]? = nil, _ port: Int
  ) throws -> HTTPMessage {
    let body = try bytes ?? self.bytes(range)
    let client = try HTTPClient(port: port)
    try client.send(bytes: request(range, baton: baton, body))
    return try client.answer()
  }

  /// Its bytes.
  public func request(
    _ range: ClosedRange<Int>, baton: String? = nil, _ body: [UInt8]
  ) -> [UInt8] {
    let end = baton.map { "/\($0)" } ?? ""
    let path = "/sync/\(generation)/\(range.lowerBound)/\(range.upperBound + 1)\(end)"
    let head = HTTPClient.text("POST", path, headers: headers)
      .replacing("Content-Length: 0", with: "Content-Length: \(body.count)")
    return Array(head.utf8) + body
  }

  public enum Outcome: Equatable {
    case pushed, conflict
    case refused(Int, String)
  }

  /// Pushes what the node has not got, and tries once more when it has less than was believed.
  public func push(_ port: Int) throws -> Outcome {
    for _ in 0..<2 {
      if let outcome = try pushAll(port) { return outcome }
    }
    return .refused(0, "the node keeps saying that it has less")
  }

  /// - Returns: nil when the node has less than was believed.
  private func pushAll(_ port: Int) throws -> Outcome? {
    var baton: String?
    let last = try last
    while durable < last {
      let range = durable + 1...min(last, durable + Self.framesPerRequest)
      let answer = try post(range, baton: baton, port)
      guard answer.status == 200 else { return .refused(answer.status, answer.text) }
      let json = try answer.json
      guard let number = json["max_frame_no"]?.integer, let status = json["status"]?.text else {
        throw TestFailure(answer.text)
      }
      if status == "conflict" { return .conflict }
      durable = Int(number)
      guard durable <= range.upperBound else { throw TestFailure("a frame that was not sent") }
      if durable < range.upperBound { return nil }
      baton = json["baton"]?.text
    }
    return .pushed
  }
}
