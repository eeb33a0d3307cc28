// The answer to a cursor, which leaves while its batch runs. What the client has not taken is never
// more than a few pieces: the batch waits.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import NIOHTTP1
import Store
import WALShip

/// Writes entries to a client. It is used on the stream's loop alone; the client can be on another.
final class HranaCursorAnswer: StepOutlet {
  private let call: NIOLoopBound<HTTPCall>
  private let stream: HranaStream
  private let server: HranaServer
  private var output = OutputBytes()
  /// Of a result that is here as a whole: what was not written yet.
  private var entries: HranaCursor?
  private var hasBegun = false
  /// The client has not taken what was sent.
  private var isFull = false
  private var isSending = false
  private var waiting: (() -> Void)?

  init(_ call: NIOLoopBound<HTTPCall>, _ stream: HranaStream, _ server: HranaServer) {
    self.call = call
    self.stream = stream
    self.server = server
    output.append("{\"baton\":")
    output.writeOptional(server.baton(stream))
    output.append(",\"base_url\":null}\n")
  }

  // MARK: What the batch comes to

  func take(_ outcome: StepOutcome, of step: Int) -> Bool {
    entries = HranaCursor(step: step, outcome)
    return writeEntries()
  }

  func take(_ entries: ByteBuffer) -> Bool {
    output.append(entries)
    sendIfLarge()
    return !isFull
  }

  func whenRoom(_ then: @escaping () -> Void) { waiting = then }

  /// The batch is over.
  func end(_ token: Token?) {
    output.writeCursorEnd(token)
    output.append("\n")
    let (bytes, headers) = (output.take(), headers())
    onClientsLoop { call in
      if let headers { call.begin(.ok, type: HTTPType.text, headers: headers) }
      call.write(bytes)
      call.end()
    }
  }

  // MARK: What the client takes

  /// - Returns: false when there is no room for all.
  private func writeEntries() -> Bool {
    while !isFull {
      guard let entry = entries?.next() else {
        entries = nil
        return true
      }
      output.append(entry)
      output.append("\n")
      sendIfLarge()
    }
    return false
  }

  /// The client would rather have few pieces than small ones; and what is told at the beginning of
  /// an answer is then true for all of most answers.
  private func sendIfLarge() {
    guard output.count >= server.limits.chunkBytesMax, !isFull else { return }
    let (bytes, headers) = (output.take(), headers())
    isFull = true
    isSending = true
    let bound = NIOLoopBound(self, eventLoop: stream.loop)
    onClientsLoop { call in
      // Nobody would say when it has room.
      guard !call.isOver else { return bound.onItsLoop { $0.server.close($0.stream) } }
      if let headers { call.begin(.ok, type: HTTPType.text, headers: headers) }
      call.write(bytes)
      call.whenWritable { bound.onItsLoop { $0.hasRoom() } }
    }
    isSending = false
  }

  private func hasRoom() {
    isFull = false
    guard !isSending, writeEntries() else { return }
    let then = waiting
    waiting = nil
    then?()
  }

  /// Those of an answer that has not begun: they tell what state its first piece is of.
  private func headers() -> HTTPHeaders? {
    guard !hasBegun else { return nil }
    hasBegun = true
    let token = stream.session.token ?? stream.lease.node.tracker.position.token
    return [HTTPHeaders.edgeToken: "\(token)"]
  }

  private func onClientsLoop(_ body: @escaping @Sendable (HTTPCall) -> Void) {
    call.onItsLoop(body)
  }
}

extension NIOLoopBound where Value: AnyObject {
  /// Calls `body` on the value's loop: at once, if this is it.
  fileprivate func onItsLoop(_ body: @escaping @Sendable (Value) -> Void) {
    if eventLoop.inEventLoop { return body(value) }
    eventLoop.execute { body(value) }
  }
}
