// Which file system a path is on.
// Source: proc(5), /proc/mounts, and fstab(5) for its escapes

import Glibc

struct MountTable {
  struct Mount: Equatable {
    var path: String
    var kind: String
    var options: [String]
  }

  private let mounts: [Mount]

  static func read() -> MountTable {
    let bytes = (try? TextFile.read("/proc/mounts", bytesMax: 16 << 20)) ?? []
    return MountTable(text: String(decoding: bytes, as: UTF8.self))
  }

  init(text: String) {
    mounts = text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ").map(String.init)
      guard fields.count >= 4 else { return nil }
      let options = fields[3].split(separator: ",").map(String.init)
      return Mount(path: Self.unescape(fields[1]), kind: fields[2], options: options)
    }
  }

  /// The mount that an existing path lies in: the one with the longest matching path, the last of
  /// equals.
  func mount(of path: String) -> Mount? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return mount(containing: String(cString: resolved))
  }

  func mount(containing path: String) -> Mount? {
    var best: Mount?
    for mount in mounts where Self.contains(mount.path, path) {
      if mount.path.utf8.count >= (best?.path.utf8.count ?? 0) { best = mount }
    }
    return best
  }

  private static func contains(_ root: String, _ path: String) -> Bool {
    root == "/" || path == root || path.hasPrefix(root + "/")
  }

  /// Blanks and backslashes are written as octal numbers.
  private static func unescape(_ text: String) -> String {
    var text = text
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\134", "\\")] {
      while let range = text.firstRange(of: escape) { text.replaceSubrange(range, with: character) }
    }
    return text
  }
}
