// The database file itself, by its header: read, never opened with SQLite.
// Source: https://www.sqlite.org/fileformat2.html#the_database_header

import Glibc

enum DatabaseFindings {
  /// A log that is much longer means that something keeps checkpoints from finishing.
  private static let walBytesMax = 256 << 20

  /// - Returns: nothing about a file that does not exist yet.
  static func all(path: String) -> [Finding] {
    var info = stat()
    guard stat(path, &info) == 0 else {
      return [.ok("database", "\(path) does not exist yet")]
    }
    var header = [UInt8](repeating: 0, count: 100)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      return [
        .fail(
          "database", "\(path): \(errorText(errno))", do: "Give the user of edge-sql access to it.")
      ]
    }
    defer { close(descriptor) }
    if info.st_size == 0 { return [.ok("database", "\(path) is empty")] }
    let count = pread(descriptor, &header, header.count, 0)
    guard count == header.count, Array(header[..<16]) == Array("SQLite format 3\0".utf8) else {
      return [
        .fail("database", "\(path) is not an SQLite database", do: "Check the path, or restore it.")
      ]
    }
    return [database(path, Int(info.st_size), header), log(path + "-wal")]
  }

  private static func database(_ path: String, _ bytes: Int, _ header: [UInt8]) -> Finding {
    let stored = Int(header[16]) << 8 | Int(header[17])
    let pageBytes = stored == 1 ? 65536 : stored
    let text = "\(path), \(SizeText.text(bytes)), pages of \(SizeText.text(pageBytes))"
    guard header[18] == 2 else {
      return .warn(
        "database", "\(text), not in WAL mode",
        do: "A primary switches it when no other program has it open; or: PRAGMA journal_mode=WAL")
    }
    return .ok("database", "\(text), WAL mode")
  }

  private static func log(_ path: String) -> Finding {
    var info = stat()
    guard stat(path, &info) == 0 else { return .ok("WAL file", "there is none") }
    let bytes = Int(info.st_size)
    guard bytes > walBytesMax else { return .ok("WAL file", SizeText.text(bytes)) }
    return .warn(
      "WAL file", "\(SizeText.text(bytes)) long",
      do: "A reader that stays open keeps it from starting over: look for long transactions.")
  }
}
