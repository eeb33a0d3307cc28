// File systems that are soon full, for tests of what nodes do then.

import EdgeTesting
import Glibc

/// A file system of its own, of a few megabytes.
final class SmallDisk {
  let path: String

  /// - Returns: nil when this user may not mount.
  init?(megabytes: Int, in directory: TestDirectory) throws {
    path = directory.file("disk")
    mkdir(path, 0o755)
    guard geteuid() == 0, mount("tmpfs", path, "tmpfs", 0, "size=\(megabytes)m") == 0 else {
      print("skipped: a small file system needs root and CAP_SYS_ADMIN")
      return nil
    }
  }

  deinit { umount2(path, Int32(MNT_DETACH)) }

  /// Takes all the space there is, up to `spare` bytes.
  func fill(spare: Int) throws {
    let descriptor = open(path + "/ballast", O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
    defer { close(descriptor) }
    // Whoever writes beside this takes space, too.
    try eventually("the disk is full", deadline: .seconds(10)) {
      var info = statvfs()
      guard statvfs(path, &info) == 0 else { throw TestFailure("no statvfs") }
      let free = Int(info.f_bavail) * Int(info.f_frsize)
      return posix_fallocate(descriptor, 0, off_t(max(4096, free - spare))) == 0
    }
  }

  func free() { unlink(path + "/ballast") }
}
