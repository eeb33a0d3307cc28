// What a release of edge-sql left behind: `Tests/Fixtures/v1`, made by `make record`.

import EdgeTesting
import Glibc
import Serving

enum UpgradeFiles {
  private static let tests = #filePath.split(separator: "/").dropLast(3)
  static let folder = "/" + (tests + ["Fixtures", "v1"]).joined(separator: "/")

  static func read(_ name: String) throws -> [UInt8] { try Files.read("\(folder)/\(name)") }

  /// What the nodes said of themselves when they were recorded.
  static func expected() throws -> JSONValue {
    try JSONValue.parse(String(decoding: read("expected.json"), as: UTF8.self))
  }

  /// Copies the files of a node, `primary.db` or `replica.db`, into a directory.
  static func copy(_ database: String, to directory: TestDirectory) throws {
    for suffix in ["", "-wal", "-pagemap", "-identity"]
    where Files.exists("\(folder)/\(database)\(suffix)") {
      try directory.write(database + suffix, read(database + suffix))
    }
  }

  /// Makes a stopped replica's position worth nothing: its page map is gone and a page is wrong.
  static func spoil(_ database: String) throws {
    try Files.flipBit(database, at: 512 * 5 + 300)
    Files.removeAll(database + "-pagemap")
  }

  /// Replaces a fixture.
  static func write(_ name: String, _ bytes: [UInt8]) throws {
    try write("\(folder)/\(name)", of: bytes)
  }

  static func write(_ path: String, of bytes: [UInt8]) throws {
    let descriptor = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw TestFailure("\(path) cannot be made") }
    defer { close(descriptor) }
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw TestFailure("\(path) cannot be written")
    }
  }
}
