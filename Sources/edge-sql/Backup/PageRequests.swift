// Asks a node for the pages that have changed since a transaction, with several requests in flight,
// so that the copy is bound by the disk or the link and not by round trips.
// Source: docs/PROTOCOL.md, `.pages`

import NIOCore
import Replica
import Serving
import Store
import WALShip

/// Gets pages over one connection and takes them to a copy.
final class PageRequests {
  private let client: LineClient
  private let copy: ReplicaCopy
  private let pageSize: PageSize
  private let decoder = PageDecoder()
  private let page: PageMemory
  /// Called after each answer with how many pages of the database it was about.
  var onProgress: (Int) -> Void = { _ in }

  /// Parts of the database whose pages are asked for side by side.
  private static let lanesMax = 4
  private static let chunkBytes = 256 << 10
  /// A node answers at once, or holds a snapshot back for a few seconds.
  private static let answerMilliseconds = 60_000
  private static let pauseMilliseconds = 50
  /// Refusals in a row that say `retry`: half a minute of them.
  private static let refusalsMax = 600

  /// A part of the database, worked through from page to page.
  private struct Lane {
    /// The last page that was looked at.
    var after: UInt32
    /// Nil for the part that goes to the end of the database, wherever that is by then.
    var through: UInt32?

    func line(since: TXID) -> String {
      ".pages \(since) \(after)" + (through.map { " \($0)" } ?? "")
    }
  }

  /// What one round brought.
  struct Round {
    var epoch: Epoch
    /// Where the node stood before the first page was read: the next round begins there.
    var began: TXID
    var pages: Int
  }

  init(client: LineClient, copy: ReplicaCopy) {
    self.client = client
    self.copy = copy
    pageSize = copy.map.identity.pageSize
    page = PageMemory(bytes: pageSize.bytes)
  }

  // MARK: Rounds

  /// Fetches the pages that changed after `since`, each as it is when its turn comes.
  ///
  /// - Parameter pageCount: how many pages the database has, more or less.
  /// - Returns: nil when the history of the node became another one meanwhile.
  func round(since: TXID, pageCount: UInt32) throws -> Round? {
    var waiting = lanes(pageCount)[...]
    for lane in waiting { try client.send(lane.line(since: since)) }
    var round: Round?
    var refusals = 0
    while var lane = waiting.popFirst() {
      let answer: Answer
      do {
        answer = try receive().last
        refusals = 0
      } catch let error as ServerError where error.canRetry && refusals < Self.refusalsMax {
        refusals += 1
        MonotonicClock.sleep(milliseconds: Self.pauseMilliseconds)
        try client.send(lane.line(since: since))
        waiting.append(lane)
        continue
      }
      let part = try Self.round(answer)
      guard part.epoch == round?.epoch ?? part.epoch else {
        // The answers to the others must not be taken for those of the next round.
        for _ in waiting { _ = try? receive() }
        return nil
      }
      round = round ?? Round(epoch: part.epoch, began: part.began, pages: 0)
      round?.pages += part.pages
      let next = answer.json.member("next").asInt.map { UInt32(clamping: $0) }
      let end = next ?? lane.through ?? max(pageCount, lane.after)
      onProgress(Int(end) - Int(lane.after))
      guard let next else { continue }
      guard next > lane.after else { throw ClientError.malformedAnswer("a cursor goes back") }
      lane.after = next
      try client.send(lane.line(since: since))
      waiting.append(lane)
    }
    return round
  }

  private func lanes(_ pageCount: UInt32) -> [Lane] {
    let chunk = max(1, Self.chunkBytes / pageSize.bytes)
    let chunks = (Int(pageCount) + chunk - 1) / chunk
    let count = max(1, min(Self.lanesMax, chunks))
    let width = (chunks + count - 1) / count * chunk
    return (0..<count).map { number in
      Lane(
        after: UInt32(clamping: number * width),
        through: number == count - 1 ? nil : UInt32(clamping: (number + 1) * width))
    }
  }

  /// Fetches what changed after `since`, all of it from one snapshot.
  ///
  /// - Returns: nil when that is too much at once, and another round must come first.
  func finalRound(since: TXID) throws -> ShipRoundEnd? {
    for _ in 0..<Self.refusalsMax {
      do {
        try client.send(".pages \(since) final")
        let answer = try receive()
        guard let end = answer.end, end.isConsistent else {
          throw ClientError.malformedAnswer("a snapshot has no end")
        }
        return end
      } catch let error as ServerError where error.code == ErrorCode.responseTooLarge.rawValue {
        return nil
      } catch let error as ServerError where error.canRetry {
        MonotonicClock.sleep(milliseconds: Self.pauseMilliseconds)
      }
    }
    throw CommandFailure(.temporary, "the node finds no quiet moment for a snapshot")
  }

  // MARK: Answers

  /// Reads one answer, and takes its pages to the copy as they arrive.
  ///
  /// - Returns: its last line, and the end of a consistent round if there was one.
  private func receive() throws -> (last: Answer, end: ShipRoundEnd?) {
    var messages = ByteBuffer()
    var end: ShipRoundEnd?
    let last = try client.finish(timeoutMilliseconds: Self.answerMilliseconds) { part in
      if Interrupt.take() { throw ClientError.interrupted }
      guard let data = part.json.member("data").asString.flatMap(Base64Text.decode) else {
        throw ClientError.malformedAnswer("a line has no data")
      }
      messages.writeBytes(data)
      while let message = try messages.readShipMessage() {
        if message.kind == .roundEnd { end = try ShipRoundEnd(decoding: message.body) }
        if message.kind == .pages { try write(message.body) }
      }
      messages.discardReadBytes()
    }
    guard messages.readableBytes == 0 else {
      throw ClientError.malformedAnswer("a message is cut off")
    }
    return (last, end)
  }

  private func write(_ body: ByteBuffer) throws {
    try body.withUnsafeReadableBytes { bytes in
      try CatchUpPages(bytes).forEach(pageSize: pageSize, decoder, page) { pgno, txid in
        try copy.write(pgno, page.readOnly, txid: txid)
      }
    }
  }

  private static func round(_ answer: Answer) throws(ClientError) -> Round {
    guard let epoch = answer.json.member("epoch").asInt,
      let began = answer.json.member("began").asInt, began >= 0,
      let pages = answer.json.member("pages").asInt
    else { throw .malformedAnswer("\"\(answer.text.prefix(60))\" has no pages") }
    return Round(
      epoch: Epoch(UInt32(clamping: epoch)), began: TXID(UInt64(began)), pages: pages)
  }
}
