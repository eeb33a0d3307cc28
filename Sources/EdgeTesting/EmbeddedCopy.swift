// An embedded replica as Turso's `libsql` keeps one, with the requests that it makes: so that the
// routes are tested where the library is not installed, and in states that it hides.
// Source: docs/SYNC.md

import Serving
import Store

/// A copy of a database in memory, pulled over HTTP.
public final class EmbeddedCopy {
  public private(set) var bytes: [UInt8] = []
  public private(set) var generation: UInt32 = 0
  /// The last frame that ended a commit.
  public private(set) var frame = 0
  /// What goes into each request.
  public var headers: [String] = []

  public static let pageBytes = 4096
  private static let frameBytes = 4120
  private static let pullsMax = 10_000
  private static let triesMax = 100

  public init() {}

  /// The node answered as the library does not expect it.
  public struct Refused: Error, CustomStringConvertible {
    public var status: Int
    public var description: String
  }

  /// A node that has not got a write yet of which it told says so, and the library asks again.
  private func get(_ path: String, _ port: Int) throws -> HTTPMessage {
    func ask() throws -> HTTPMessage {
      try HTTPClient(port: port).request("GET", path, headers: headers)
    }
    for _ in 0..<Self.triesMax {
      let answer = try ask()
      guard answer.status == 503 else { return answer }
      elapse(seconds: 0.1)
    }
    return try ask()
  }

  private func refuse(_ answer: HTTPMessage) -> Refused {
    Refused(status: answer.status, description: "\(answer.status): \(answer.text)")
  }

  /// Begins with a whole copy.
  public func begin(_ port: Int) throws {
    let info = try get("/info", port)
    guard info.status == 200, let number = try info.json["current_generation"]?.integer,
      let number = UInt32(exactly: number), number > 0
    else { throw refuse(info) }
    let export = try get("/export/\(number)", port)
    guard export.status == 200 else { throw refuse(export) }
    bytes = export.body
    generation = number
    frame = 0
  }

  /// Pulls until there is nothing more.
  ///
  /// - Parameter between: runs before each pull but the first.
  public func sync(_ port: Int, between: () throws -> Void = {}) throws {
    var open: [(page: Int, bytes: ArraySlice<UInt8>)] = []
    for number in 0..<Self.pullsMax {
      if number > 0 { try between() }
      let start = frame + open.count + 1
      let answer = try get("/sync/\(generation)/\(start)/\(start + 128)", port)
      switch answer.status {
      case 200: try take(answer.body, &open)
      case 400:
        guard let next = try answer.json["generation"]?.integer else { throw refuse(answer) }
        guard open.isEmpty else { throw TestFailure("a generation ends within a commit") }
        if next <= Int64(generation) { return }
        generation += 1
        frame = 0
      default: throw refuse(answer)
      }
    }
    throw TestFailure("there is no end of frames")
  }

  private func take(
    _ body: [UInt8], _ open: inout [(page: Int, bytes: ArraySlice<UInt8>)]
  ) throws {
    guard !body.isEmpty, body.count % Self.frameBytes == 0 else {
      throw TestFailure("\(body.count) bytes of frames")
    }
    for start in stride(from: 0, to: body.count, by: Self.frameBytes) {
      let page = Self.word(body[start...])
      let size = Self.word(body[(start + 4)...])
      guard page > 0 else { throw TestFailure("page 0") }
      open.append((page, body[start + 24..<start + Self.frameBytes]))
      guard size > 0 else { continue }
      frame += open.count
      commit(open, size)
      open = []
    }
  }

  private func commit(_ frames: [(page: Int, bytes: ArraySlice<UInt8>)], _ size: Int) {
    let count = size * Self.pageBytes
    if bytes.count < count { bytes += [UInt8](repeating: 0, count: count - bytes.count) }
    for (page, content) in frames where page <= size {
      bytes.replaceSubrange((page - 1) * Self.pageBytes..<page * Self.pageBytes, with: content)
    }
    bytes.removeLast(bytes.count - count)
  }

  private static func word(_ bytes: ArraySlice<UInt8>) -> Int {
    bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
  }

  /// Writes the copy to a file, and compares all pages with a database that nobody changes now.
  public func requireEqual(_ database: String, in directory: TestDirectory) throws {
    let path = try directory.write("embedded-copy.db", bytes)
    Files.removeAll(path + "-")
    try samePages(database, path)
  }
}
