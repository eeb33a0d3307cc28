// The file that a backup becomes: whether it may be made at all is found out before anything is
// copied.

import Store

/// The path of a backup, and whether it may replace what is there.
struct BackupTarget {
  let path: String
  /// `--force`.
  let replaces: Bool

  /// - Throws: a failure that says why no file can be made at `path`; nothing was touched.
  func check() throws(CommandFailure) {
    guard !path.isEmpty, !path.hasSuffix("/") else {
      throw CommandFailure(.usage, "\"\(path)\" is not the name of a file")
    }
    do {
      try Disk.requireFolder(of: path)
    } catch {
      throw CommandFailure(.cannotCreate, "\(path): \(error.message)")
    }
    guard Disk.exists(path) else { return }
    guard Disk.isRegularFile(path) else {
      throw CommandFailure(.cannotCreate, "\(path) is there already, and is not a file")
    }
    guard replaces else {
      throw CommandFailure(
        .cannotCreate, "\(path) is there already", hint: "With --force it is replaced.")
    }
    if let process = Disk.lockHolder(of: path) {
      throw CommandFailure(.temporary, "\(path) is in use by process \(process)")
    }
  }

  /// The sentence and the exit code for what the disk says.
  func failure(_ error: any Error) -> any Error {
    switch error {
    case let error as DiskError where error.isDiskFull:
      CommandFailure(.inputOutput, "no room is left for \(path)")
    case let error as ReplicaCopy.Failure: CommandFailure(.temporary, error.description)
    default: NodeRun.failure(error, path: path)
    }
  }
}
