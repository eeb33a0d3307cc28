// One connection over HTTP, one request at a time, for what is done between loads.

/// Requests go out as they are; of an answer only the body is kept.
final class HTTPSocket {
  private let socket: ClientSocket

  init(port: Int) throws {
    socket = try ClientSocket(port: port)
  }

  /// - Parameter text: the request with its header.
  /// - Returns: the body of the answer, whatever its status.
  func request(_ text: String) throws -> String {
    var text = text
    try text.withUTF8 { try socket.send(UnsafeRawBufferPointer($0)) }
    var received: [UInt8] = []
    while true {
      try socket.receive { received += $0 }
      guard let end = received.firstRange(of: Array("\r\n\r\n".utf8)) else { continue }
      let header = String(decoding: received[..<end.lowerBound], as: UTF8.self).lowercased()
      guard let value = header.split(separator: "content-length:").dropFirst().first,
        let length = Int(value.drop { $0 == " " }.prefix { $0.isNumber })
      else { throw Failure("an answer without a length: \(header)") }
      if received.count - end.upperBound >= length {
        return String(decoding: received[end.upperBound...], as: UTF8.self)
      }
    }
  }
}
