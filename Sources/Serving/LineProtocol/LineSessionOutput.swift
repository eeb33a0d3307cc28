// What leaves a session: bytes, and in the end the session itself.

import NIOCore
import Store

extension LineSession {
  /// Sends what has been written.
  func flush() {
    guard let context, !isLineOpen, writer.count > 0 else { return }
    let bytes = writer.take()
    if bytes.readableBytes > Self.writerBytesKept {
      writer = ResponseWriter(integers: writer.integers)
    }
    context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
  }

  /// A larger writer is not kept: there are as many as connections.
  private static let writerBytesKept = 32 << 10

  /// Calls `body` when the client has read enough for more to be sent; at once if it has.
  func whenRoom(_ body: @escaping () -> Void) {
    if hasRoom { body() } else { onRoom = body }
  }

  /// Answers what is being worked on, then closes. Idle connections are closed at once.
  func drain() {
    isDraining = true
    if !isBusy { work() }
    if isOpen, !isClosing { afterWork() }
  }

  /// Closes without waiting for anything.
  func abort() { context?.close(promise: nil) }

  /// Closes after everything that was written has been sent.
  ///
  /// What the client still sends is read and forgotten for a moment: a socket that is closed with
  /// unread input loses its last answers.
  func close() {
    guard let context, !isClosing else { return }
    isLineOpen = false
    flush()
    isClosing = true
    input.removeAll()
    let channel = context.channel
    let isInputClosed = isInputClosed
    let loop = loop
    context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
      guard !isInputClosed else { return channel.close(promise: nil) }
      channel.close(mode: .output, promise: nil)
      loop.scheduleTask(in: .seconds(1)) { channel.close(promise: nil) }
    }
    if wantsRead { context.read() }
  }
}
