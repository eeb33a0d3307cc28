// A client that is as thin as it can be: what is measured is the node, not its client.

import Glibc

/// One TCP connection to 127.0.0.1.
final class ClientSocket {
  let descriptor: Int32
  private var received: [UInt8] = []
  private static let chunkBytes = 1 << 16

  init(port: Int) throws {
    descriptor = try Self.connect(port)
  }

  deinit { close(descriptor) }

  /// - Returns: a connected descriptor, which the caller closes.
  static func connect(_ port: Int) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw Failure("no socket") }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(UInt16(port)).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let code = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else {
      close(descriptor)
      throw Failure("port \(port) cannot be connected to")
    }
    var one: Int32 = 1
    setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    return descriptor
  }

  /// Sends everything, waiting where the socket is full.
  func send(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = Glibc.send(
        descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count,
        Int32(MSG_NOSIGNAL))
      if sent < 0, errno == EINTR { continue }
      guard sent > 0 else { throw Failure("the connection was closed") }
      rest = rest.dropFirst(sent)
    }
  }

  /// Receives what is there, waiting until something is. `body` sees the bytes.
  func receive(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    try withUnsafeTemporaryAllocation(byteCount: Self.chunkBytes, alignment: 16) { chunk in
      var count = 0
      repeat {
        count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
      } while count < 0 && errno == EINTR
      guard count > 0 else { throw Failure("the connection was closed") }
      try body(UnsafeRawBufferPointer(rebasing: chunk[..<count]))
    }
  }

  /// Sends a line and waits for the one that answers it.
  func request(_ line: String) throws -> String {
    var line = line + "\n"
    try line.withUTF8 { try send(UnsafeRawBufferPointer($0)) }
    received.removeAll(keepingCapacity: true)
    while received.last != UInt8(ascii: "\n") { try receive { received += $0 } }
    return String(decoding: received.dropLast(), as: UTF8.self)
  }

  /// The same for a request that must not fail.
  func run(_ line: String) throws -> String {
    let answer = try request(line)
    guard !answer.hasPrefix("{\"error\"") else { throw Failure("\(line): \(answer)") }
    return answer
  }
}
