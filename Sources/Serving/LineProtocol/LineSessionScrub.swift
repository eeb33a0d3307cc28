// `.scrub`: a check of all pages now, and its outcome.

import NIOCore
import Store

extension LineSession {
  func startScrub(_ head: AnswerHead) {
    guard let scrubber = node.scrubber else {
      return answer(head, error: RequestError(.notAllowed, "this node has no scrub"))
    }
    suspend()
    let bound = NIOLoopBound((self, head), eventLoop: loop)
    scrubber.run { [loop] result in
      loop.execute {
        let (session, head) = bound.value
        session.resume { session.answer(head, result) }
      }
    }
  }

  private func answer(_ head: AnswerHead, _ result: Result<Scrubber.Report, any Error>) {
    switch result {
    case .failure(let error):
      answer(head, error: RequestError(.overloaded, "the scrub did not finish: \(error)"))
    case .success(let report):
      writer.beginLine(id: head.id)
      writer.member("pages", Int64(report.pages))
      writer.member("damaged", Int64(report.damaged.count))
      writer.member("repaired", Int64(report.repaired))
      writer.member("mended", Int64(report.mended))
      writer.beginArray("damaged_pages")
      for pgno in report.damaged.prefix(100) { writer.element("\(pgno)") }
      writer.endArray()
      endLine(head, token: nil)
    }
  }
}
