// Files that hold keys: read whole, never longer than a key can be, and private ones only when
// nobody else can read them.

import Store

/// What is wrong with a file of keys or certificates, in a sentence that names it.
public struct KeyFileFailure: Error, Equatable, Sendable, CustomStringConvertible {
  public var description: String
  init(_ description: String) { self.description = description }
}

enum KeyFile {
  static let bytesMax = 1 << 20

  /// The bytes of a file.
  ///
  /// - Parameter isPrivate: whether others must not be able to read it.
  static func read(_ path: String, isPrivate: Bool) throws(KeyFileFailure) -> [UInt8] {
    guard Disk.isRegularFile(path), let mode = Disk.permissions(path),
      let bytes = try? Disk.readPrefix(of: path, count: bytesMax)
    else { throw KeyFileFailure("the file \(path) cannot be read") }
    guard !isPrivate || mode & 0o077 == 0 else {
      throw KeyFileFailure("the key file \(path) can be read by others: `chmod 600` it")
    }
    guard !bytes.isEmpty else { throw KeyFileFailure("the file \(path) is empty") }
    guard bytes.count < bytesMax else {
      throw KeyFileFailure("the file \(path) is too long for keys")
    }
    return bytes
  }

  /// The PEM blocks of a text, each with its label: `PUBLIC KEY`.
  static func blocks(_ text: String) -> [(label: String, pem: String)] {
    var blocks: [(label: String, pem: String)] = []
    var open: (label: String, lines: [Substring])?
    for line in text.split(whereSeparator: \.isNewline) {
      if line.hasPrefix("-----BEGIN "), line.hasSuffix("-----") {
        open = (String(line.dropFirst(11).dropLast(5)), [])
      }
      open?.lines.append(line)
      if let block = open, line == "-----END \(block.label)-----" {
        blocks.append((block.label, block.lines.joined(separator: "\n") + "\n"))
        open = nil
      }
    }
    return blocks
  }
}
