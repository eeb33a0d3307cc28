// Namespaces of the kernel for single threads: what such a thread starts, opens and mounts belongs
// to the namespace, and all of it is gone with the last process in it, also after a crash.
//
// Source: https://man7.org/linux/man-pages/man7/namespaces.7.html

import Glibc

/// Calls that glibc hides from programs that are not compiled with _GNU_SOURCE.
enum Namespaces {
  enum Kind: Int32, Sendable {
    case mounts = 0x0002_0000
    case network = 0x4000_0000
  }

  private typealias Unshare = @convention(c) (Int32) -> Int32
  private typealias SetNamespace = @convention(c) (Int32, Int32) -> Int32

  /// Moves the calling thread into a new namespace. Never call it on a thread that does other work
  /// afterwards.
  static func leave(_ kind: Kind) throws {
    let function = unsafeBitCast(try symbol("unshare"), to: Unshare.self)
    guard function(kind.rawValue) == 0 else { throw failure("no new namespace") }
  }

  /// Moves the calling thread into the network namespace behind `descriptor`.
  static func enterNetwork(_ descriptor: Int32) throws {
    let function = unsafeBitCast(try symbol("setns"), to: SetNamespace.self)
    guard function(descriptor, Kind.network.rawValue) == 0 else {
      throw failure("the network namespace cannot be entered")
    }
  }

  /// The network namespace of the calling thread, to be closed by the caller.
  static func openNetwork() throws -> Int32 {
    let descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("no descriptor of a network namespace") }
    return descriptor
  }

  static func failure(_ what: String) -> TestFailure {
    TestFailure("\(what): \(String(cString: strerror(errno)))")
  }

  private static func symbol(_ name: String) throws -> UnsafeMutableRawPointer {
    guard let symbol = dlsym(nil, name) else { throw TestFailure("this C library has no \(name)") }
    return symbol
  }
}
