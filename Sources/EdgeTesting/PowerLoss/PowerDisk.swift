// A disk that loses its power: a file system whose log is not written any more, from one moment to
// the next. What was not synced by then is gone, or there in part.
//
// Source: https://man7.org/linux/man-pages/man2/ioctl_xfs_goingdown.2.html

import Glibc

/// A file system on a loop device, for one test.
public final class PowerDisk {
  public enum Kind: String, Sendable, CaseIterable {
    case ext4, xfs
    var makerName: String { "mkfs.\(rawValue)" }
    /// XFS makes none below 300 MB.
    fileprivate var megabytes: Int { self == .ext4 ? 192 : 320 }
  }

  /// Where it is mounted.
  public let path: String
  public let kind: Kind
  private let image: String
  private let bench: PowerBench
  private var isMounted = false

  fileprivate static let goDown: UInt = 0x8004_587d
  fileprivate static let withoutLog: UInt32 = 2

  init(_ kind: Kind, image: String, path: String, bench: PowerBench) throws {
    self.kind = kind
    self.image = image
    self.path = path
    self.bench = bench
    let descriptor = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw Namespaces.failure("no image of a disk") }
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(kind.megabytes << 20)) == 0 else {
      throw Namespaces.failure("no image of a disk")
    }
    mkdir(path, 0o755)
    try Self.run(kind.makerName, ["-q", image])
    try attach()
  }

  deinit { if isMounted { umount2(path, Int32(MNT_DETACH)) } }

  public func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Nothing reaches the disk from now on. Programs that use it get EIO.
  public func losePower() throws {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Namespaces.failure(path) }
    defer { close(descriptor) }
    var how = Self.withoutLog
    guard ioctl(descriptor, Self.goDown, &how) == 0 else {
      throw Namespaces.failure("\(path) cannot be shut down")
    }
  }

  /// The system starts anew, with what is on the disk. No program may use it any more.
  public func restorePower() throws {
    try eventually("nobody uses \(path)", deadline: .seconds(20)) {
      if umount2(path, 0) == 0 { return true }
      guard errno == EBUSY else { throw Namespaces.failure("\(path) cannot be unmounted") }
      return false
    }
    isMounted = false
    try bench.startAnew()
    try attach()
  }

  /// The loop device goes away with the mount.
  private func attach() throws {
    try Self.run("mount", ["-t", kind.rawValue, "-o", "loop", image, path])
    isMounted = true
  }

  private static func run(_ name: String, _ arguments: [String]) throws {
    guard let program = Program(named: name) else { throw TestFailure("there is no \(name)") }
    let result = try program.run(arguments, deadline: .seconds(60))
    guard result.succeeded else {
      throw TestFailure("\(name) \(arguments): \(result.status) \(result.error)")
    }
  }
}
