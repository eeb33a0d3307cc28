// The directory of the database: file system, space, locks, shared memory, and the time that
// syncing takes. It tries with files of its own, which are gone afterwards; the database is only
// read.

import Glibc

struct DirectoryFindings {
  let directory: String

  func all() -> [Finding] {
    var findings = [fileSystem(), space()]
    do {
      let probe = try ProbeFile(directory: directory)
      findings += [locks(probe), sharedMemory(probe), syncTime(probe)]
    } catch {
      findings.append(
        .fail(
          "directory", "\(directory): no file can be made in it: \(error)",
          do: "Give the user of edge-sql write access to the directory, or use another one."))
    }
    return findings
  }

  // MARK: File system

  private func fileSystem() -> Finding {
    guard let mount = MountTable.read().mount(of: directory) else {
      return .warn(
        "file system", "\(directory): /proc/mounts does not tell its kind",
        do: "Make sure that it is a local disk.")
    }
    let text = "\(mount.kind) on \(mount.path)"
    if mount.options.contains("ro") {
      return .fail("file system", "\(text) is read-only", do: "Mount it for writing.")
    }
    switch mount.kind {
    case _ where mount.kind.hasPrefix("nfs"), "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs",
      "lustre", "gfs2", "ocfs2":
      return .warn(
        "file system",
        "\(text): SQLite's locks and shared memory do not work reliably over networks",
        do: "Put the database on a local disk.")
    case "9p", "virtiofs", "vboxsf", "vmhgfs":
      return .warn(
        "file system", "\(text) is shared with the host: locks and mmap may not work",
        do: "Put the database on a disk of this machine.")
    case _ where mount.kind.hasPrefix("fuse"):
      return .warn(
        "file system", "\(text): whether syncing and locks work is up to the program behind it",
        do: "Use a local disk unless you know that program well.")
    case "tmpfs", "ramfs":
      return .warn(
        "file system", "\(text): the database is gone when the machine restarts",
        do: "Fine for a replica, which fetches it again; use a disk for a primary.")
    default: return .ok("file system", text)
    }
  }

  private func space() -> Finding {
    var info = statvfs()
    guard statvfs(directory, &info) == 0 else {
      return .fail(
        "disk space", "\(directory): \(errorText(errno))", do: "Create the directory.")
    }
    let free = Int(clamping: UInt64(info.f_bavail) * UInt64(info.f_frsize))
    let total = max(1, Int(clamping: UInt64(info.f_blocks) * UInt64(info.f_frsize)))
    let percent = fixed(Double(free) / Double(total) * 100, decimals: 0)
    let text = "\(SizeText.text(free)) free of \(SizeText.text(total)) (\(percent) %)"
    if info.f_files > 0, info.f_favail < 100 {
      return .fail("disk space", "\(text), but no inodes", do: "Remove files.")
    }
    if free < 64 << 20 { return .fail("disk space", text, do: "Make room: at least 64 MiB.") }
    if free < 1 << 30 || free * 20 < total {
      return .warn(
        "disk space", text, do: "Make room: a bootstrap needs the database a second time.")
    }
    return .ok("disk space", text)
  }

  // MARK: Locks and shared memory

  /// A lock of an open file must keep out a lock of a process: SQLite's locks are of the second
  /// kind.
  private func locks(_ probe: ProbeFile) -> Finding {
    let remedy = "Put the database on a local disk; without locks SQLite damages databases."
    guard probe.lock(probe.first, kind: .openFile) == 0 else {
      let reason = errorText(errno)
      guard probe.lock(probe.first, kind: .process) == 0 else {
        return .fail("file locks", "fcntl locks do not work: \(errorText(errno))", do: remedy)
      }
      return .warn(
        "file locks", "POSIX locks work, open file description locks do not: \(reason)",
        do: "Use Linux 3.15 or newer, and a local disk.")
    }
    guard probe.lock(probe.second, kind: .openFile) != 0 else {
      return .fail("file locks", "two open files got the same OFD lock", do: remedy)
    }
    guard probe.lock(probe.second, kind: .process) != 0 else {
      return .fail("file locks", "a POSIX lock was given beside an OFD lock", do: remedy)
    }
    return .ok("file locks", "POSIX and open file description locks exclude each other")
  }

  private func sharedMemory(_ probe: ProbeFile) -> Finding {
    probe.isMemoryShared()
      ? .ok("shared memory", "two mappings of a file see the same bytes")
      : .fail(
        "shared memory", "mmap with MAP_SHARED does not work here",
        do: "Put the database on a local disk; SQLite's WAL needs shared memory.")
  }

  // MARK: Syncing

  private func syncTime(_ probe: ProbeFile) -> Finding {
    let times = probe.syncNanoseconds(count: 20).sorted()
    guard let median = times.dropFirst(times.count / 2).first, let longest = times.last else {
      return .fail(
        "fdatasync", "it fails: \(errorText(errno))",
        do: "Look into the kernel log for disk errors.")
    }
    let texts = (DurationText.text(nanoseconds: median), DurationText.text(nanoseconds: longest))
    let text = "\(texts.0) for 4 KiB (median of 20, longest \(texts.1))"
    if median > 20_000_000 {
      return .warn(
        "fdatasync", text,
        do: "Every group of commits waits for it: a disk with power-loss protection is faster.")
    }
    if median < 10_000 {
      return .warn(
        "fdatasync", "\(text): no disk is that fast",
        do: "Syncing is a lie here (tmpfs, eatmydata, a virtual disk): a power cut loses commits.")
    }
    return .ok("fdatasync", text)
  }
}
