// What a follower is sent: performs the actions of `ShipSender`.

import Logging
import NIOCore
import Store
import WALShip

extension ShipServerSession {
  /// Does what the sender says until it says wait, or the socket is full.
  func pump() {
    guard case .serving = phase, let outlet else { return }
    guard source.tracker.position.epoch == servedEpoch else {
      server.logger.info("another history began: a follower must join again", metadata: metadata())
      return close()
    }
    while outlet.isWritable, sender != nil {
      // Read the position before the ring: what the position promises is then in the ring, or gone
      // from it for good.
      let head = source.tracker.position.txid
      guard let action = sender?.next(head: head, ringFirst: source.ring.first) else { break }
      guard perform(action, head: head) else { break }
    }
    outlet.flush()
  }

  /// - Returns: false when there is nothing more to do now.
  func perform(_ action: ShipSender.Action, head: TXID) -> Bool {
    switch action {
    case .wait:
      return false
    case .sendTransaction(let txid):
      guard let message = source.ring.message(txid) else {
        sender?.transactionGone()
        return true
      }
      write(message)
      sender?.transactionSent()
      return true
    case .plan(let selection, let isFirst):
      let pages = source.pages.count(selection, follower: followerPages)
      if isFirst {
        let announcement = ShipCatchUp(
          pages: UInt32(clamping: pages), pageSize: UInt32(source.map.identity.pageSize.bytes),
          isComparison: isComparison)
        send(ShipMessage(.catchUp, body: announcement.encode()))
      }
      sender?.planned(pages: pages, head: head)
      return true
    case .sendPages(let selection, let after):
      let accepted = source.pages.readPages(
        selection, after: after, follower: followerPages, completion: finish(generation))
      if !accepted { close() }
      return false
    case .sendConsistentRound(let selection):
      let accepted = source.pages.readConsistentRound(
        selection, follower: followerPages, history: source.tracker.epochs,
        completion: finish(generation))
      if !accepted { close() }
      return false
    }
  }

  func finish(
    _ generation: Int
  ) -> @Sendable (Result<PageSource.Chunk, any Error>) -> Void {
    let session = NIOLoopBound(self, eventLoop: server.loop)
    let loop = server.loop
    return { result in
      loop.execute { session.value.pagesRead(result, generation) }
    }
  }

  func pagesRead(_ result: Result<PageSource.Chunk, any Error>, _ generation: Int) {
    guard case .serving = phase, generation == self.generation else { return }
    if case .failure(is PageSource.Failure) = result { source.doubt() }
    switch result {
    case .success(let chunk) where (chunk.position?.epoch ?? servedEpoch) != servedEpoch:
      // Pages of a history that the follower does not expect.
      close()
    case .success(let chunk):
      write(chunk.messages)
      if let position = chunk.position {
        sender?.roundSent(at: position.txid)
        followerPages = FollowerPages(.all)
        isComparison = false
      } else {
        sender?.pagesSent(through: chunk.cursor)
      }
      pump()
    case .failure(let error as SQLiteError) where error.primaryCode == SQLiteError.busy:
      // Commits kept coming between, or one is so large that it is still being captured.
      retry(after: .milliseconds(20))
    case .failure(let error):
      server.logger.error("pages could not be read", metadata: metadata(["error": "\(error)"]))
      retry(after: .seconds(1))
    }
  }

  func retry(after pause: TimeAmount) {
    let session = NIOLoopBound(self, eventLoop: server.loop)
    let generation = generation
    server.loop.scheduleTask(in: pause) {
      guard generation == session.value.generation else { return }
      session.value.sender?.failed()
      session.value.pump()
    }
  }

  func send(_ message: ShipMessage) {
    var bytes = ByteBuffer()
    bytes.writeShipMessage(message)
    write(bytes)
  }

  func write(_ bytes: ByteBuffer) {
    status.bytesSent += UInt64(bytes.readableBytes)
    outlet?.write(bytes)
  }
}
