// One database on the link above: carries messages between the link's loop and that of the
// database's applier, and tells the upstream how much of them was taken, so that no more than a
// window waits here for a database that is slow.

import NIOCore
import Serving
import Synchronization
import WALShip

/// A stream, on the following side. The session uses it on its own loop; the link on the link's.
final class TrunkOutlet: ShipOutlet, @unchecked Sendable {  // each part belongs to one loop
  private let trunk: Trunk
  let name: String
  private let loop: any EventLoop
  /// On the session's loop.
  private var session: UpstreamSession?
  private var unsent: [ByteBuffer] = []
  private var taken = 0
  /// On the link's loop.
  private var number: UInt16?
  private var isOver = false
  /// This side has said that it is over.
  private var isEnded = false

  init(trunk: Trunk, name: String, session: UpstreamSession) {
    self.trunk = trunk
    self.name = name
    self.session = session
    loop = session.upstream.loop
  }

  // MARK: On the session's loop

  var isWritable: Bool { true }
  var address: String { trunk.address }

  func write(_ messages: ByteBuffer) { unsent.append(messages) }

  func flush() {
    guard !unsent.isEmpty else { return }
    let messages = unsent
    unsent = []
    trunk.loop.execute { [self] in send(messages) }
  }

  func close(_ end: ShipEnd) {
    flush()
    session = nil
    trunk.loop.execute { [self] in finish(end) }
  }

  private func take(_ messages: [ShipMessage]) {
    guard let session else { return }
    for message in messages {
      session.take(message)
      taken += ShipMessage.headerBytes + message.body.readableBytes
    }
    session.readComplete()
    guard taken >= ShipTrunk.windowBytes / 4 else { return }
    let window = ShipWindow(bytes: UInt32(clamping: taken))
    taken = 0
    trunk.loop.execute { [self] in
      guard let number, !isOver, !isEnded else { return }
      sendNow(ShipMessage(.window, stream: number, body: window.encode()))
    }
  }

  // MARK: On the link's loop

  private func send(_ messages: [ByteBuffer]) {
    guard !isOver, !isEnded else { return }
    if number == nil {
      guard let opened = trunk.open(self) else {
        isOver = true
        return tell { $0.close(reason: "the upstream is away") }
      }
      number = opened
    }
    guard let number else { return }
    var bytes = ByteBuffer()
    for message in messages {
      do {
        try bytes.writeShipMessages(message, stream: number)
      } catch {
        preconditionFailure("what a session writes are messages")
      }
    }
    trunk.send(bytes)
  }

  private func finish(_ end: ShipEnd) {
    guard !isOver, !isEnded else { return }
    isEnded = true
    guard let number else { return }
    sendNow(ShipMessage(.end, stream: number, body: end.encode()))
  }

  private func sendNow(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    trunk.send(bytes)
  }

  func deliver(_ messages: [ShipMessage]) {
    guard !isEnded else { return }
    loop.execute { [self] in take(messages) }
  }

  /// The upstream says that the stream is over.
  func endedAbove(_ end: ShipEnd) {
    let isKnown = isEnded
    finish(ShipEnd(.closed))
    isOver = true
    if !isKnown { tell { $0.ended(end) } }
  }

  func linkLost(_ reason: String?) {
    isOver = true
    // Whoever has ended the stream may have no loop any more.
    guard !isEnded else { return }
    tell { $0.close(reason: reason ?? "the link to the upstream broke") }
  }

  private func tell(_ body: @escaping @Sendable (UpstreamSession) -> Void) {
    loop.execute { [self] in
      guard let session else { return }
      body(session)
    }
  }
}
