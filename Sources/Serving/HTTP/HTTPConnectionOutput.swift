// How a connection writes answers, closes, and leaves HTTP.

import NIOCore
import NIOHTTP1

extension HTTPConnection {
  private static let lingerMilliseconds: Int64 = 1000

  var isWritable: Bool { context?.channel.isWritable ?? false }

  /// Answers as a whole.
  func respond(
    _ status: HTTPResponseStatus, type: String, _ body: ByteBuffer, _ headers: HTTPHeaders = [:]
  ) {
    guard let answering else { return }
    var headers = headers
    if !type.isEmpty { headers.add(name: "Content-Type", value: type) }
    headers.add(name: "Content-Length", value: "\(body.readableBytes)")
    let sendsBody = answering.head.method != .HEAD
    guard answering.isPlain else {
      write(status, headers)
      if sendsBody { write(body) }
      return end()
    }
    addCommon(to: &headers)
    var answer = ByteBuffer(
      httpHead: status, version: answering.head.version, headers, roomFor: body.readableBytes)
    if sendsBody { answer.writeImmutableBuffer(body) }
    writeBytes(answer)
    ended()
  }

  /// Begins an answer that comes in pieces.
  func begin(_ status: HTTPResponseStatus, type: String, _ headers: HTTPHeaders) {
    guard let head = answering?.head else { return }
    var headers = headers
    headers.replaceOrAdd(name: "Content-Type", value: type)
    if head.version.isOld {
      answering?.closes = true
    } else {
      headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked")
      answering?.isChunked = true
    }
    write(status, headers)
  }

  private func write(_ status: HTTPResponseStatus, _ headers: HTTPHeaders) {
    guard let context, let answering else { return }
    var headers = headers
    addCommon(to: &headers)
    let version = answering.head.version
    if answering.isPlain {
      let head = ByteBuffer(httpHead: status, version: version, headers, roomFor: 0)
      bottom?.write(NIOAny(IOData.byteBuffer(head)), promise: nil)
    } else {
      let head = HTTPResponseHead(version: version, status: status, headers: headers)
      context.write(wrapOutboundOut(.head(head)), promise: nil)
    }
  }

  /// What every answer says.
  private func addCommon(to headers: inout HTTPHeaders) {
    headers.add(name: "Access-Control-Allow-Origin", value: "*")
    headers.add(name: "Access-Control-Expose-Headers", value: HTTPHeaders.edgeToken)
    guard let answering else { return }
    if answering.closes {
      headers.replaceOrAdd(name: "Connection", value: "close")
    } else if answering.head.version.isOld {
      headers.replaceOrAdd(name: "Connection", value: "keep-alive")
    }
  }

  /// Sends a piece.
  func write(_ bytes: ByteBuffer) {
    guard let context, let answering, bytes.readableBytes > 0 else { return }
    if answering.isPlain {
      let piece = answering.isChunked ? ByteBuffer(httpChunk: bytes) : bytes
      bottom?.write(NIOAny(IOData.byteBuffer(piece)), promise: nil)
    } else {
      context.write(wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
    }
  }

  func flush() { context?.flush() }

  /// The answer is complete.
  func end() {
    guard let context, let answering else { return }
    if !answering.isPlain {
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    } else if answering.isChunked {
      writeBytes(.httpLastChunk)
    } else {
      flush()
    }
    ended()
  }

  private func ended() {
    guard let answered = answering else { return }
    answering = nil
    NodeMeters.httpRequests.record(since: answered.began)
    if answered.closes { close() }
    work()
  }

  func refuseNow(_ status: HTTPResponseStatus) {
    writeBytes(
      "HTTP/1.1 \(status.code) \(status.reasonPhrase)\r\nConnection: close\r\n"
        + "Access-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n")
    close()
  }

  func writeBytes(_ text: String) { writeBytes(ByteBuffer(string: text)) }

  private func writeBytes(_ bytes: ByteBuffer) {
    bottom?.writeAndFlush(NIOAny(IOData.byteBuffer(bytes)), promise: nil)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      unreadAlarm?.cancel()
      unreadAlarm = nil
      answering?.call?.becameWritable()
      work()
    } else if unreadAlarm == nil {
      let bound = NIOLoopBound(self, eventLoop: loop)
      unreadAlarm = loop.scheduleTask(in: .milliseconds(Int64(limits.unreadMilliseconds))) {
        bound.value.abort()
      }
    }
    context.fireChannelWritabilityChanged()
  }

  /// Closes behind what was written. What the client still sends is read for a moment, so that the
  /// system does not throw away the answer together with the connection.
  func close() {
    guard let context, !isClosing else { return }
    isClosing = true
    isDeaf = true
    patience.cancel()
    guard !isInputClosed else { return context.close(promise: nil) }
    context.close(mode: .output, promise: nil)
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: .milliseconds(Self.lingerMilliseconds)) { bound.value.abort() }
    readIfWanted()
  }

  // MARK: WebSocket

  /// Answers 101, and puts a WebSocket in the place of HTTP.
  func upgrade(_ headers: HTTPHeaders, to handlers: @escaping () throws -> [any ChannelHandler]) {
    let bound = NIOLoopBound((self, handlers), eventLoop: loop)
    // Not from within the decoder, which is about to be removed.
    loop.execute {
      let (connection, handlers) = bound.value
      connection.upgradeNow(headers, to: handlers)
    }
  }

  private func upgradeNow(_ headers: HTTPHeaders, to handlers: () throws -> [any ChannelHandler]) {
    guard let context else { return }
    var text = "HTTP/1.1 101 Switching Protocols\r\n"
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    writeBytes(text + "\r\n")
    let pipeline = context.pipeline.syncOperations
    do {
      let rest = [
        try pipeline.context(handlerType: HTTPResponseEncoder.self),
        // The last one: it gives on what it has read beyond the request.
        try pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self),
      ]
      for handler in try handlers() { try pipeline.addHandler(handler) }
      try removeCompression()
      for old in [context] + rest { pipeline.removeHandler(context: old, promise: nil) }
    } catch {
      context.close(promise: nil)
    }
  }
}

extension HTTPVersion {
  /// It knows no chunks, and closes connections unless somebody says otherwise.
  var isOld: Bool { self == .http1_0 || self == .http0_9 }
}
