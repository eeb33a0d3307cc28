// A TCP connection that sends bytes and reads lines, each with a deadline. It does not know what is
// in them.

import Access
import Glibc
import Serving

/// One connection; closed when the last reference goes.
final class LineSocket {
  let address: ServerAddress
  let descriptor: Int32
  /// Whether Ctrl-C ends waiting; `Interrupt.block` must have been called.
  var isInterruptible = false
  private var buffer: [UInt8] = []
  /// Where in `buffer` the next line begins, and up to where it has been searched for its end.
  private var lineStart = 0
  private var searched = 0

  /// The longest answer line: far above what a node sends (64 KiB of rows, or one large value).
  static let lineBytesMax = 1 << 30
  /// How often waiting looks for Ctrl-C.
  private static let interruptMilliseconds = 100

  /// Connects to the first address of the host that answers.
  init(
    _ address: ServerAddress, transport: (any TransportSecurity)? = nil, timeoutMilliseconds: Int
  ) throws(ClientError) {
    self.address = address
    let connected = try SocketConnector(address: address).connect(timeoutMilliseconds)
    guard let transport else {
      descriptor = connected
      return
    }
    do throws(TLSFailure) {
      descriptor = try TLSTunnel.open(connected, host: address.host, transport: transport)
    } catch {
      throw .insecure(address, reason: error.reason)
    }
  }

  deinit { close(descriptor) }

  /// Sends all of `bytes`.
  func send(_ bytes: [UInt8]) throws(ClientError) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        sent += count
      } else if errno == EAGAIN {
        try wait(for: POLLOUT, until: .never, timeoutMilliseconds: 0)
      } else if errno != EINTR {
        throw .lost(address, reason: errorText(errno))
      }
    }
  }

  /// Reads the next line, without its end.
  ///
  /// - Parameter timeoutMilliseconds: nil waits for ever.
  func readLine(timeoutMilliseconds: Int? = nil) throws(ClientError) -> [UInt8] {
    let deadline = timeoutMilliseconds.map { Deadline.after(milliseconds: $0) } ?? .never
    while true {
      if let line = takeLine() { return line }
      guard buffer.count - lineStart < Self.lineBytesMax else {
        throw .malformedAnswer("a line is longer than \(SizeText.text(Self.lineBytesMax))")
      }
      if try !fill() {
        try wait(for: POLLIN, until: deadline, timeoutMilliseconds: timeoutMilliseconds ?? 0)
      }
    }
  }

  private func takeLine() -> [UInt8]? {
    guard let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
      searched = buffer.count
      return nil
    }
    let hasReturn = end > lineStart && buffer[end - 1] == UInt8(ascii: "\r")
    let line = Array(buffer[lineStart..<(hasReturn ? end - 1 : end)])
    lineStart = end + 1
    searched = lineStart
    return line
  }

  /// Reads what is there.
  ///
  /// - Returns: false when nothing is there yet.
  private func fill() throws(ClientError) -> Bool {
    if lineStart > 0 {
      buffer.removeSubrange(..<lineStart)
      searched -= lineStart
      lineStart = 0
    }
    let count = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { chunk in
      let count = recv(descriptor, chunk.baseAddress, chunk.count, 0)
      if count > 0 { buffer += chunk[..<count] }
      return count
    }
    if count > 0 { return true }
    if count < 0, errno == EAGAIN || errno == EINTR { return false }
    if count == 0, Self.isTLS(buffer) {
      throw .insecure(address, reason: "it speaks TLS, and this command does not")
    }
    throw .lost(address, reason: count == 0 ? "the node closed it" : errorText(errno))
  }

  /// Whether what came is the alert of TLS to somebody who does not speak it.
  private static func isTLS(_ bytes: [UInt8]) -> Bool {
    bytes.first == 0x15 && bytes.count == 7
  }

  private func wait(
    for events: Int32, until deadline: Deadline, timeoutMilliseconds: Int
  ) throws(ClientError) {
    while true {
      let cap = isInterruptible ? Self.interruptMilliseconds : 3_600_000
      var request = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let ready = poll(&request, 1, Int32(deadline.remainingMilliseconds(capMilliseconds: cap)))
      if ready > 0 { return }
      if isInterruptible, Interrupt.take() { throw .interrupted }
      if deadline.isOver { throw .timeout(address, milliseconds: timeoutMilliseconds) }
    }
  }
}

/// Turns an address into a connected socket.
struct SocketConnector {
  var address: ServerAddress

  /// - Returns: a descriptor that does not block, with small packets sent at once.
  func connect(_ timeoutMilliseconds: Int) throws(ClientError) -> Int32 {
    let deadline = Deadline.after(milliseconds: timeoutMilliseconds)
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let found = getaddrinfo(address.host, String(address.port), &hints, &list)
    guard found == 0 else {
      throw .unreachable(address, reason: String(cString: gai_strerror(found)))
    }
    defer { freeaddrinfo(list) }
    var reason = "the name has no address"
    var next = list
    while let entry = next {
      switch attempt(entry.pointee, deadline) {
      case .success(let descriptor): return descriptor
      case .failure(let failure): reason = failure.description
      }
      next = entry.pointee.ai_next
    }
    throw .unreachable(address, reason: reason)
  }

  private func attempt(_ entry: addrinfo, _ deadline: Deadline) -> Result<Int32, BadValue> {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = socket(entry.ai_family, type, 0)
    guard descriptor >= 0 else { return .failure(BadValue(errorText(errno))) }
    var code: Int32 = 0
    if Glibc.connect(descriptor, entry.ai_addr, entry.ai_addrlen) != 0 {
      code = errno == EINPROGRESS ? outcome(descriptor, deadline) : errno
    }
    guard code == 0 else {
      close(descriptor)
      return .failure(BadValue(errorText(code)))
    }
    var on: Int32 = 1
    let size = socklen_t(MemoryLayout<Int32>.size)
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, size)
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, size)
    return .success(descriptor)
  }

  /// Waits for a connection that is on its way.
  private func outcome(_ descriptor: Int32, _ deadline: Deadline) -> Int32 {
    while true {
      var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      let milliseconds = deadline.remainingMilliseconds(capMilliseconds: 3_600_000)
      let ready = poll(&request, 1, Int32(milliseconds))
      if ready < 0, errno == EINTR { continue }
      guard ready > 0 else { return ETIMEDOUT }
      var code: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 ? code : errno
    }
  }
}
