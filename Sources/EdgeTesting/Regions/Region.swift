// A region of the world: a network namespace of its own, with a loopback and one interface. Nothing
// leads out of it but the wire to the other regions.

import Glibc

/// A network namespace. It lasts as long as this object, or a process that was started in it.
public final class Region: Sendable {
  /// From 0 on; the last byte of the address is one more.
  public let number: Int
  /// Of the interface that the other regions reach, from the range that is kept for documents.
  /// Source: https://www.rfc-editor.org/rfc/rfc5737
  public let address: String
  private let namespace: Int32
  /// The other end of the interface: packets that leave the region are read here.
  let tunnel: Int32

  /// Needs CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun.
  init(number: Int) throws {
    self.number = number
    address = "192.0.2.\(number + 1)"
    // A thread of its own: the namespace of the present one must stay as it is.
    let made = SharedValue<(namespace: Int32, tunnel: Int32)>()
    let thread = BackgroundThread {
      try Namespaces.leave(.network)
      let namespace = try Namespaces.openNetwork()
      do {
        let tunnel = try NetworkInterface.openTunnel("edge0")
        do {
          try NetworkInterface.bringUp("lo")
          try NetworkInterface.setAddress("edge0", lastByte: UInt8(number + 1))
          try NetworkInterface.bringUp("edge0")
        } catch {
          close(tunnel)
          throw error
        }
        made.set((namespace, tunnel))
      } catch {
        close(namespace)
        throw error
      }
    }
    try thread.join()
    guard let made = made.value else { throw TestFailure("no region was made") }
    (namespace, tunnel) = made
  }

  deinit {
    close(namespace)
    close(tunnel)
  }

  /// Runs `body` inside of the region, on the present thread: sockets that it opens, programs and
  /// threads that it starts stay there.
  public func inside<T>(_ body: () throws -> T) throws -> T {
    let before = try Namespaces.openNetwork()
    defer { close(before) }
    try Namespaces.enterNetwork(namespace)
    defer { Self.goBack(to: before) }
    return try body()
  }

  /// A thread that could not go back would do everything that follows in the wrong network.
  private static func goBack(to namespace: Int32) {
    do { try Namespaces.enterNetwork(namespace) } catch { preconditionFailure("\(error)") }
  }
}

/// Interfaces of the network namespace that the calling thread is in.
///
/// Source: https://man7.org/linux/man-pages/man7/netdevice.7.html
private enum NetworkInterface {
  private static let setTunnel: UInt = 0x4004_54ca
  private static let (getFlags, setFlags): (UInt, UInt) = (0x8913, 0x8914)
  private static let (setAddress, setMask): (UInt, UInt) = (0x8916, 0x891c)
  private static let (isTunnel, hasNoHeader, isUp): (UInt16, UInt16, UInt16) = (1, 0x1000, 1)

  /// An interface whose packets, beginning with their IP header, a program reads and writes.
  ///
  /// Source: https://www.kernel.org/doc/html/latest/networking/tuntap.html
  static func openTunnel(_ name: String) throws -> Int32 {
    let descriptor = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { throw Namespaces.failure("/dev/net/tun") }
    var request = request(name)
    store(isTunnel | hasNoHeader, in: &request)
    guard ioctl(descriptor, setTunnel, &request) == 0 else {
      let failure = Namespaces.failure("no interface")
      close(descriptor)
      throw failure
    }
    return descriptor
  }

  static func bringUp(_ name: String) throws {
    try withSocket { socket in
      var request = request(name)
      guard ioctl(socket, getFlags, &request) == 0 else { throw Namespaces.failure(name) }
      let flags = UInt16(request[16]) | UInt16(request[17]) << 8
      store(flags | isUp, in: &request)
      guard ioctl(socket, setFlags, &request) == 0 else { throw Namespaces.failure(name) }
    }
  }

  /// 192.0.2.`lastByte`, with all of 192.0.2.0/24 behind the interface.
  static func setAddress(_ name: String, lastByte: UInt8) throws {
    try withSocket { socket in
      for (code, bytes) in [(setAddress, [192, 0, 2, lastByte]), (setMask, [255, 255, 255, 0])] {
        var request = request(name)
        store(UInt16(AF_INET), in: &request)
        request.replaceSubrange(20..<24, with: bytes)
        guard ioctl(socket, code, &request) == 0 else { throw Namespaces.failure(name) }
      }
    }
  }

  /// `struct ifreq`: 16 bytes for the name, then what the request is about.
  private static func request(_ name: String) -> [UInt8] {
    Array(name.utf8) + [UInt8](repeating: 0, count: 40 - name.utf8.count)
  }

  private static func store(_ number: UInt16, in request: inout [UInt8]) {
    request[16] = UInt8(truncatingIfNeeded: number)
    request[17] = UInt8(truncatingIfNeeded: number >> 8)
  }

  private static func withSocket(_ body: (Int32) throws -> Void) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw Namespaces.failure("no socket") }
    defer { close(descriptor) }
    try body(descriptor)
  }
}
