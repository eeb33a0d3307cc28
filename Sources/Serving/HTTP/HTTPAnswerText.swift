// Answers as bytes. NIO's encoder writes a head piece by piece, and a chunk in three: an answer here
// is one buffer, and one call of the system.
// Source: RFC 9112

import NIOCore
import NIOHTTP1

extension ByteBuffer {
  private static let headBytesMax = 512

  /// The head of an answer, with room for what follows.
  init(
    httpHead status: HTTPResponseStatus, version: HTTPVersion, _ headers: HTTPHeaders,
    roomFor bytes: Int
  ) {
    self = ByteBufferAllocator().buffer(capacity: Self.headBytesMax + bytes)
    if status == .ok, version == .http1_1 {
      writeStaticString("HTTP/1.1 200 OK\r\n")
    } else {
      writeString(
        "HTTP/\(version.major).\(version.minor) \(status.code) \(status.reasonPhrase)\r\n")
    }
    for (name, value) in headers {
      writeString(name)
      writeStaticString(": ")
      writeString(value)
      writeStaticString("\r\n")
    }
    writeStaticString("\r\n")
  }

  /// A piece of an answer that comes in chunks.
  init(httpChunk bytes: ByteBuffer) {
    self = ByteBufferAllocator().buffer(capacity: bytes.readableBytes + 24)
    writeString(String(bytes.readableBytes, radix: 16))
    writeStaticString("\r\n")
    writeImmutableBuffer(bytes)
    writeStaticString("\r\n")
  }

  static let httpLastChunk = ByteBuffer(staticString: "0\r\n\r\n")
}
