// A place for disks that lose their power: a mount namespace of its own, so that nobody else sees
// what is mounted there, and all of it is gone with the last process in it, also after a crash.

import Glibc

/// Runs work on a thread that has its mounts for itself. Programs and threads that are started from
/// there see the same.
public enum PowerLab {
  /// Runs `body`, and throws what it throws. Expectations of a test belong outside: the thread is
  /// not the test's.
  public static func run<T: Sendable>(_ body: @escaping @Sendable (PowerBench) throws -> T) throws
    -> T
  {
    let result = SharedValue<T>()
    let thread = BackgroundThread {
      try Namespaces.leave(.mounts)
      let isPrivate: UInt = UInt(MS_REC) | UInt(MS_PRIVATE)
      guard mount("none", "/", nil, isPrivate, nil) == 0 else {
        throw Namespaces.failure("mounts cannot be made private")
      }
      result.set(try body(try PowerBench()))
    }
    try thread.join()
    guard let value = result.value else { throw TestFailure("nothing came of it") }
    return value
  }

  /// Why a disk of this kind cannot lose its power here; nil when it can.
  public static func whyNot(_ kind: PowerDisk.Kind) -> String? {
    guard geteuid() == 0 else { return "mounting needs root" }
    guard access("/dev/loop-control", R_OK | W_OK) == 0 else {
      return "/dev/loop-control is missing"
    }
    guard Program(named: kind.makerName) != nil else { return "there is no \(kind.makerName)" }
    do {
      try run { bench in
        let disk = try bench.makeDisk(kind)
        try disk.losePower()
        try disk.restorePower()
      }
      return nil
    } catch {
      return "\(error)"
    }
  }
}

/// Memory for the images of disks, and the number of the present run of the system.
public final class PowerBench {
  public let directory: TestDirectory
  private let bootFile: String
  private let images: String
  private var diskCount = 0
  private static let bootPath = "/proc/sys/kernel/random/boot_id"

  fileprivate init() throws {
    directory = try TestDirectory()
    images = directory.file("images")
    mkdir(images, 0o700)
    guard mount("tmpfs", images, "tmpfs", 0, "size=2g") == 0 else {
      throw Namespaces.failure("no file system in memory")
    }
    bootFile = "\(images)/boot-id"
    try startAnew()
    guard mount(bootFile, Self.bootPath, nil, UInt(MS_BIND), nil) == 0 else {
      throw Namespaces.failure("the number of the system's run cannot be replaced")
    }
  }

  deinit { umount2(images, Int32(MNT_DETACH)) }

  /// From now on, programs that start see that the system was started anew.
  func startAnew() throws {
    var generator = SystemRandomNumberGenerator()
    let hex = (0..<32).map { _ in String(UInt8.random(in: 0..<16, using: &generator), radix: 16) }
    var text = ""
    for (index, digit) in hex.enumerated() {
      if [8, 12, 16, 20].contains(index) { text += "-" }
      text += digit
    }
    let descriptor = open(bootFile, O_CREAT | O_WRONLY | O_CLOEXEC, 0o444)
    guard descriptor >= 0 else { throw Namespaces.failure("no number of the system's run") }
    defer { close(descriptor) }
    let bytes = Array((text + "\n").utf8)
    guard pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else {
      throw Namespaces.failure("no number of the system's run")
    }
  }

  public func makeDisk(_ kind: PowerDisk.Kind) throws -> PowerDisk {
    diskCount += 1
    return try PowerDisk(
      kind, image: "\(images)/\(diskCount)", path: directory.file("disk\(diskCount)"), bench: self)
  }
}
