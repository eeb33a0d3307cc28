// The yardstick beside a bench: a TCP round trip on this machine with nothing behind it but an
// echo.

import Glibc

/// A thread that sends back what it gets on one connection, and the other end of that connection.
final class EchoServer {
  private let client: LineSocket
  private let line = Array("{\"echo\":\"as long as a small request of the line protocol\"}\n".utf8)

  init() throws(CommandFailure) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard listener >= 0 else { throw Self.failure() }
    defer { close(listener) }
    let port = try Self.listen(listener)
    do {
      client = try LineSocket(
        ServerAddress(host: "127.0.0.1", port: port), timeoutMilliseconds: 1000)
    } catch { throw error.failure }
    let accepted = accept(listener, nil, nil)
    guard accepted >= 0 else { throw Self.failure() }
    var on: Int32 = 1
    setsockopt(
      accepted, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    try Self.startThread(accepted)
  }

  /// Sends one line and waits for it.
  func roundTripNanoseconds() throws(ClientError) -> UInt64 {
    let start = MonotonicClock.nowNanoseconds
    try client.send(line)
    _ = try client.readLine(timeoutMilliseconds: 5000)
    return MonotonicClock.nowNanoseconds - start
  }

  /// - Returns: the port that the system chose.
  private static func listen(_ listener: Int32) throws(CommandFailure) -> Int {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(listener, address, size) == 0 && Glibc.listen(listener, 1) == 0
          && getsockname(listener, address, &size) == 0
      }
    }
    guard isListening else { throw failure() }
    return Int(UInt16(bigEndian: address.sin_port))
  }

  /// The thread owns the descriptor and ends when the other end is closed.
  private static func startThread(_ descriptor: Int32) throws(CommandFailure) {
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { argument in
        let descriptor = Int32(Int(bitPattern: argument) - 1)
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 16) { chunk in
          while true {
            let count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
            guard count > 0 else { break }
            _ = send(descriptor, chunk.baseAddress, count, Int32(MSG_NOSIGNAL))
          }
        }
        close(descriptor)
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(descriptor) + 1))
    guard code == 0 else {
      close(descriptor)
      throw failure()
    }
    pthread_detach(thread)
  }

  private static func failure() -> CommandFailure {
    CommandFailure(.inputOutput, "the echo on 127.0.0.1 cannot be set up: \(errorText(errno))")
  }
}
