// Small files that people write: configuration, credentials, SQL to run.

import Glibc

enum TextFile {
  struct Failure: Error, Sendable, CustomStringConvertible {
    var path: String
    var reason: String
    /// The `errno` of the operation that failed.
    var code: Int32
    var isMissing: Bool { code == ENOENT }
    var description: String { "\(path) \(reason)" }
  }

  /// All bytes of a file.
  ///
  /// - Parameter bytesMax: a longer file is an error, so that a wrong path cannot fill the memory.
  static func read(_ path: String, bytesMax: Int) throws(Failure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(path) }
    defer { close(descriptor) }
    return try read(descriptor, path: path, bytesMax: bytesMax)
  }

  /// Everything from an open file or pipe up to its end.
  static func read(
    _ descriptor: Int32, path: String, bytesMax: Int
  ) throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw failure(path) }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= bytesMax else {
        throw Failure(path: path, reason: "is longer than \(SizeText.text(bytesMax))", code: EFBIG)
      }
    }
  }

  /// Makes the file, or puts the text in the place of what it holds.
  static func write(_ text: String, to path: String) throws(Failure) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failure(path, "cannot be made") }
    defer { close(descriptor) }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure(path, "cannot be written") }
      rest = rest.dropFirst(count)
    }
  }

  private static func failure(_ path: String, _ what: String = "cannot be read") -> Failure {
    let code = errno
    return Failure(path: path, reason: "\(what): \(errorText(code))", code: code)
  }
}

/// The system's words for an `errno`.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }
