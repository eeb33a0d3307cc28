// One database on a follower's link: opens it when the follower asks, and meters what its session
// sends, so that every stream gets its turn and none sends more than its follower can take.

import Logging
import NIOCore
import Store
import WALShip

/// A stream of a link, on the serving side. It belongs to the trunk server's event loop.
final class TrunkStream: ShipOutlet {
  private enum State {
    case opening(ShipJoin)
    case serving(ShipServerSession)
    /// Ended from here; the follower may not know yet.
    case closed
  }

  let number: UInt16
  let name: String
  private weak var link: TrunkSession?
  private let loop: any EventLoop
  private let logger: Logger
  private var state: State?
  /// Bytes that the follower still has room for.
  private var credit = ShipTrunk.windowBytes
  /// Bytes of the present turn.
  private var spent = 0
  private var isWaiting = false

  /// What one stream sends before it is the turn of the next.
  private static let turnBytes = 128 << 10

  init(link: TrunkSession, number: UInt16, name: String) {
    self.link = link
    self.number = number
    self.name = name
    loop = link.server.loop
    logger = link.server.logger
  }

  var isClosed: Bool { if case .closed = state { true } else { false } }

  // MARK: Life

  func open(_ database: DatabaseName, _ join: ShipJoin) {
    state = .opening(join)
    let bound = NIOLoopBound(self, eventLoop: loop)
    link?.server.source.databases.acquireForFollowing(database, on: loop) { result in
      bound.value.opened(result)
    }
  }

  private func opened(_ result: Result<(any OpenDatabase, DatabaseLease), RequestError>) {
    guard case .opening(let join) = state else { return }
    switch result {
    case .success((let database, let lease)):
      guard let server = database.shipServer else {
        return refuse(.notReady, "this node ships nothing")
      }
      // From here on the session keeps the database open, as long as the follower lacks something.
      withExtendedLifetime(lease) {
        let session = server.serve(join, by: self)
        if !isClosed { state = .serving(session) }
      }
    case .failure(let error):
      let reason: ShipRefusal.Reason =
        error.code == ErrorCode.databaseNotFound.rawValue ? .otherDatabase : .overloaded
      refuse(reason, error.message)
    }
  }

  func refuse(_ reason: ShipRefusal.Reason, _ message: String) {
    logger.debug("a stream is refused", metadata: ["database": "\(name)", "reason": "\(message)"])
    link?.send(
      ShipMessage(.refuse, stream: number, body: ShipRefusal(reason, message).encode()))
    close(ShipEnd(.closed, message))
  }

  func receive(_ message: ShipMessage) throws {
    switch message.kind {
    case .end:
      let state = state
      close(ShipEnd(.closed))
      if case .serving(let session) = state { session.close() }
      link?.streamFreed(self)
    case .window:
      let window = try ShipWindow(decoding: message.body)
      guard credit + Int(window.bytes) <= ShipTrunk.windowBytes else {
        throw ShipProtocolError.unexpected("more room than there is")
      }
      credit += Int(window.bytes)
      if case .serving(let session) = state { session.pump() }
    default:
      switch state {
      case .serving(let session): session.take(message)
      case .closed: return  // it was sent before the follower knew
      case .opening, nil: throw ShipProtocolError.unexpected("\(message.kind) before a welcome")
      }
    }
  }

  func linkLost() {
    let former = state
    state = .closed
    if case .serving(let session) = former { session.close() }
  }

  func takeTurn() {
    isWaiting = false
    spent = 0
    if case .serving(let session) = state { session.pump() }
  }

  // MARK: Outlet

  var isWritable: Bool {
    guard let link, !isClosed else { return false }
    return link.isWritable && credit > 0 && spent < Self.turnBytes
  }

  var address: String { link?.address ?? "?" }

  func write(_ messages: ByteBuffer) {
    guard !isClosed else { return }
    spent += messages.readableBytes
    credit -= messages.readableBytes
    var bytes = ByteBuffer()
    do {
      try bytes.writeShipMessages(messages, stream: number)
    } catch {
      preconditionFailure("what a session writes are messages")
    }
    link?.write(bytes)
  }

  func flush() {
    link?.flush()
    guard let link, !isClosed, !isWaiting, credit > 0, !isWritable else { return }
    isWaiting = true
    link.wait(self)
  }

  func close(_ end: ShipEnd) {
    guard !isClosed else { return }
    state = .closed
    link?.streamClosed(self, end)
  }
}
