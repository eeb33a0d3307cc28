// `.pages`: the pages of the database file, for whoever makes a copy of it while the node runs. The
// client asks for each part, so a slow one costs the node nothing, and it alone knows how far it
// is. Source: docs/PROTOCOL.md, the line protocol

import NIOCore
import Store
import WALShip

/// What `.pages` asks for.
private enum PagesRequest {
  case part(since: TXID, after: UInt32, through: UInt32)
  case final(since: TXID)

  /// - Returns: nil when the arguments are not of this command.
  init?(_ arguments: [String]) {
    guard let since = UInt64(arguments[0]).map(TXID.init) else { return nil }
    if arguments.count == 2, arguments[1] == "final" {
      self = .final(since: since)
      return
    }
    guard let after = UInt32(arguments[1]) else { return nil }
    let last = arguments.count == 3 ? UInt32(arguments[2]) : .max
    guard let last else { return nil }
    self = .part(since: since, after: after, through: last)
  }
}

/// An answer to `.pages` that is on its way.
private struct PagesAnswer {
  var head: AnswerHead
  /// Where the node stood before the pages were read.
  var began: Position
  var chunk: PageSource.Chunk
}

extension LineSession {
  func sendPages(_ arguments: [String], _ head: AnswerHead) {
    guard let request = PagesRequest(arguments) else {
      return answer(head, error: Self.misused("pages"))
    }
    guard let source = node.pages() else {
      return answer(
        head, error: RequestError(.overloaded, "the node has just started and reads its pages"))
    }
    suspend()
    let began = node.tracker.position
    let loop = loop
    let bound = NIOLoopBound((self, head), eventLoop: loop)
    let completion: @Sendable (Result<PageSource.Chunk, any Error>) -> Void = { result in
      loop.execute {
        let (session, head) = bound.value
        session.pagesRead(result, began, head)
      }
    }
    let isAccepted =
      switch request {
      case .part(let since, let after, let last):
        source.readPages(
          .changed(since: since), after: after, through: last, follower: FollowerPages(.all),
          completion: completion)
      case .final(let since):
        source.readConsistentRound(
          .changed(since: since), follower: FollowerPages(.all), history: node.tracker.epochs,
          pagesMax: source.finalPagesMax, completion: completion)
      }
    if !isAccepted { completion(.failure(ThreadStopped())) }
  }

  private func pagesRead(
    _ result: Result<PageSource.Chunk, any Error>, _ began: Position, _ head: AnswerHead
  ) {
    switch result {
    case .success(let chunk): send(PagesAnswer(head: head, began: began, chunk: chunk))
    case .failure(let error): resume { answer(head, error: RequestError(readingPages: error)) }
    }
  }

  /// Sends an answer line by line, the next when the client has room for it. The session stays busy
  /// until the last one.
  private func send(_ pages: PagesAnswer) {
    guard isOpen else { return }
    var pages = pages
    while pages.chunk.messages.readableBytes > PageSource.chunkBytes {
      let piece = pages.chunk.messages.readSlice(length: PageSource.chunkBytes) ?? ByteBuffer()
      writer.beginLine(id: pages.head.id)
      writer.member("data", base64: piece)
      writer.more()
      writer.endLine()
      flush()
      guard hasRoom else {
        onRoom = { self.send(pages) }
        return
      }
    }
    resume {
      writer.beginLine(id: pages.head.id)
      writer.member("epoch", Int64(pages.began.epoch.rawValue))
      writer.member("began", Int64(clamping: pages.began.txid.rawValue))
      writer.member("pages", Int64(pages.chunk.pages))
      if let next = pages.chunk.cursor {
        writer.member("next", Int64(next))
      } else {
        writer.nullMember("next")
      }
      writer.member("data", base64: pages.chunk.messages)
      endLine(pages.head, token: nil)
    }
  }
}

extension RequestError {
  /// What the client of a copy is told.
  fileprivate init(readingPages error: any Error) {
    switch error {
    case PageSource.Failure.tooManyPages:
      self.init(.responseTooLarge, "\(error)")
    case PageSource.Failure.damagedPage:
      self.init(code: "SQLITE_CORRUPT", message: "\(error)")
    case let error as DiskError: self.init(code: "SQLITE_IOERR", message: error.description)
    case is ThreadStopped: self.init(.overloaded, "\(error)")
    default: self.init(reporting: error)
    }
  }
}
