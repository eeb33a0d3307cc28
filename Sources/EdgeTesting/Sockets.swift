// TCP sockets, on 127.0.0.1 unless a network namespace has other addresses.

import Glibc

enum Socket {
  /// A pipe that is not passed on to children.
  static func pipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    guard Glibc.pipe(&ends) == 0 else { throw TestFailure("no pipe") }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  static func address(_ port: Int, host: String = "127.0.0.1") -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port)).bigEndian
    address.sin_addr.s_addr = inet_addr(host)
    return address
  }

  static func make() throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw TestFailure("no socket") }
    return descriptor
  }

  /// - Parameter receiveBytes: the size of the kernel's buffer, for clients that read slowly.
  static func connect(
    _ port: Int, host: String = "127.0.0.1", receiveBytes: Int32? = nil
  ) throws -> Int32 {
    let descriptor = try make()
    if var receiveBytes {
      setsockopt(
        descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size))
    }
    var address = address(port, host: host)
    let code = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else {
      let reason = String(cString: strerror(errno))
      close(descriptor)
      throw TestFailure("port \(port) cannot be connected to: \(reason)")
    }
    noDelay(descriptor)
    return descriptor
  }

  static func noDelay(_ descriptor: Int32) {
    var one: Int32 = 1
    setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
  }

  static func listen() throws -> (descriptor: Int32, port: Int) {
    let descriptor = try make()
    var address = address(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(descriptor, generic, length) | Glibc.listen(descriptor, 64)
          | getsockname(descriptor, generic, &length)
      }
    }
    guard code == 0 else { throw TestFailure("no port to listen on") }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  /// Waits until one of `events` happens.
  static func wait(_ descriptor: Int32, _ events: Int32, _ deadline: Deadline) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    while true {
      let count = poll(&entry, 1, deadline.millisecondsLeft)
      if count > 0 { return true }
      if count == 0 || errno != EINTR { return false }
    }
  }
}

/// A port that is taken.
public enum LoopbackListener {
  /// - Returns: a listening socket, to be closed by the caller, and its port.
  public static func open() throws -> (descriptor: Int32, port: Int) { try Socket.listen() }
}
